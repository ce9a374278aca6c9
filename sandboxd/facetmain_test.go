package sandboxd

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// facetMain is the program that the tests confine: it does what it is told over the wire.
func facetMain() {
	conn, err := net.FileConn(os.NewFile(3, "wire"))
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	for in := bufio.NewScanner(conn); in.Scan(); {
		word := strings.Fields(in.Text())
		fmt.Fprintln(conn, facetDo(word[0], word[1:]))
	}
	os.Exit(0)
}

func facetDo(what string, args []string) string {
	switch what {
	case "hello":
		return "hello"
	case "exit":
		n, _ := strconv.Atoi(args[0])
		os.Exit(n)
	case "panic":
		panic("as told")
	case "print":
		fmt.Println(strings.Join(args, " "))
		return "ok"
	case "env":
		return strings.Join(os.Environ(), " ")
	case "open":
		_, err := os.Open(args[0])
		return fmt.Sprint(err)
	case "dial":
		_, err := net.Dial("tcp", args[0])
		return fmt.Sprint(err)
	case "exec":
		_, err := os.StartProcess(args[0], args, &os.ProcAttr{})
		return fmt.Sprint(err)
	case "alloc":
		n, _ := strconv.Atoi(args[0])
		return strconv.Itoa(hog(n))
	case "threads":
		n, _ := strconv.Atoi(args[0])
		for range n {
			go func() { runtime.LockOSThread(); select {} }()
		}
		time.Sleep(100 * time.Millisecond)
		return "ok"
	case "spin":
		for start := time.Now(); time.Since(start) < time.Second; {
		}
		return "ok"
	case "burn": // on so many threads, until it is killed
		n, _ := strconv.Atoi(args[0])
		runtime.GOMAXPROCS(n + 1)
		for range n {
			go func() {
				for {
				}
			}()
		}
		return "ok"
	case "syscall":
		n := make([]uintptr, 7)
		for i, a := range args {
			v, _ := strconv.ParseInt(a, 0, 64)
			n[i] = uintptr(v)
		}
		r, _, errno := syscall.RawSyscall6(n[0], n[1], n[2], n[3], n[4], n[5], n[6])
		return fmt.Sprintf("%d %d", int64(r), errno)
	}
	return "unknown"
}

// hog touches n MiB and keeps them.
func hog(n int) int {
	var kept [][]byte
	for range n {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		kept = append(kept, b)
	}
	runtime.KeepAlive(kept)
	return len(kept)
}
