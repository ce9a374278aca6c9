package main

import (
	"github.com/facetgateway/fgw/gateway/admin"
	"github.com/urfave/cli/v2"
)

func auditCommand() *cli.Command {
	return &cli.Command{
		Name:      "audit",
		Usage:     "put each SQL statement of a facet into its log, or stop doing so",
		ArgsUsage: "ADDRESS on|off",
		Description: "`fgw logs ADDRESS` shows them, stream \"sql\": the text, the rows and bytes of the result, the time, and the code of an\n" +
			"error. It takes effect at once and stays until it is switched off.",
		Action: func(c *cli.Context) error {
			args, err := arguments(c, 2, 2)
			if err != nil {
				return err
			}
			a, err := checkAddress(c, args[0], aFacet)
			if err != nil {
				return err
			}
			if args[1] != "on" && args[1] != "off" {
				return wrongUsage(commandName(c), "%q is neither on nor off", args[1])
			}
			return withGateway(c, func(client *admin.Client) error { return client.Audit(c.Context, a, args[1] == "on") })
		},
	}
}
