package egress

// Parameters of Punycode (RFC 3492 §5).
const (
	pBase        = 36
	pThresholdLo = 1
	pThresholdHi = 26
	pSkew        = 38
	pDamp        = 700
	pInitialBias = 72
	pInitialRune = 0x80
)

// punycode encodes a label without the prefix "xn--" (RFC 3492 §6.3). The label is at most
// maxLabel runes, so nothing here can overflow: the delta is below 64 × 0x110000.
func punycode(label []rune) string {
	var out []byte
	for _, r := range label {
		if r < pInitialRune {
			out = append(out, byte(r))
		}
	}
	plain := len(out)
	if plain > 0 {
		out = append(out, '-')
	}
	current, delta, bias := rune(pInitialRune), 0, pInitialBias
	for done := plain; done < len(label); {
		next := nextRune(label, current)
		delta += int(next-current) * (done + 1)
		current = next
		for _, r := range label {
			if r < current {
				delta++
			}
			if r != current {
				continue
			}
			out = appendDelta(out, delta, bias)
			bias = adapt(delta, done+1, done == plain)
			delta = 0
			done++
		}
		delta++
		current++
	}
	return string(out)
}

// nextRune is the smallest rune of the label that is not below from.
func nextRune(label []rune, from rune) rune {
	least := rune(1<<31 - 1)
	for _, r := range label {
		if r >= from {
			least = min(least, r)
		}
	}
	return least
}

// appendDelta appends a number of variable length, little-endian.
func appendDelta(out []byte, delta, bias int) []byte {
	for k := pBase; ; k += pBase {
		threshold := min(max(k-bias, pThresholdLo), pThresholdHi)
		if delta < threshold {
			return append(out, digit(delta))
		}
		rest := pBase - threshold
		out = append(out, digit(threshold+(delta-threshold)%rest))
		delta = (delta - threshold) / rest
	}
}

func digit(n int) byte { return "abcdefghijklmnopqrstuvwxyz0123456789"[n] }

// adapt guesses the size of the next delta from the last (RFC 3492 §6.1).
func adapt(delta, points int, first bool) int {
	if first {
		delta /= pDamp
	} else {
		delta /= 2
	}
	delta += delta / points
	k := 0
	for ; delta > (pBase-pThresholdLo)*pThresholdHi/2; k += pBase {
		delta /= pBase - pThresholdLo
	}
	return k + (pBase-pThresholdLo+1)*delta/(delta+pSkew)
}
