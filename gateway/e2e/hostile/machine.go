package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// sqlFlood asks for large results, without end, and reads no answer.
func (p *peer) sqlFlood() {
	const query, session = 2, 1
	text := "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT n, zeroblob(1000) FROM c"
	for request := uint32(1); ; request++ {
		b := []byte{query, 0}
		b = binary.LittleEndian.AppendUint16(b, session)
		b = binary.LittleEndian.AppendUint32(b, request)
		b = binary.LittleEndian.AppendUint32(b, 0)
		b = binary.AppendUvarint(b, 0)
		b = binary.AppendUvarint(b, 1<<30)
		b = binary.AppendUvarint(b, uint64(len(text)))
		b = append(b, text...)
		if _, err := p.sql.Write(append(b, 0)); err != nil {
			return
		}
	}
}

// forks tries to make processes in every way that there is.
func forks(*peer) string {
	made := 0
	for range 1000 {
		for _, call := range [][3]uintptr{{syscall.SYS_CLONE, uintptr(syscall.SIGCHLD)}, {435 /* clone3 */}} {
			pid, _, err := syscall.RawSyscall(call[0], call[1], 0, 0)
			if err != 0 {
				continue
			}
			if pid == 0 {
				for {
					syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
				}
			}
			made++
		}
	}
	return fmt.Sprint("made ", made)
}

// memory takes more than it may have, and touches it.
func memory(*peer) string {
	debug.SetMemoryLimit(1 << 40)
	debug.SetGCPercent(-1)
	kept := [][]byte{}
	for {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	}
}

// threads makes more threads than it may have.
func threads(*peer) string {
	debug.SetMaxThreads(1 << 20)
	for range 20_000 {
		go func() { runtime.LockOSThread(); select {} }()
		runtime.Gosched()
	}
	return "made them all"
}

func deep(n int) string {
	var room [1024]byte
	return deep(n+1) + string(room[n%1024:])
}

func fault(*peer) string {
	debug.SetPanicOnFault(false)
	var nowhere *int
	go func() { *nowhere = 1 }()
	block()
	return ""
}

func spin() {
	runtime.GOMAXPROCS(8)
	for range 8 {
		go func() {
			for {
			}
		}()
	}
}

// trip makes a call that no application has a reason to make.
func trip(*peer) string {
	_, _, err := syscall.RawSyscall(syscall.SYS_PTRACE, 0, 0, 0)
	return fmt.Sprint("ptrace: ", err)
}

// signalOthers tries to end whatever it can reach.
func signalOthers(*peer) string {
	hit := 0
	for pid := -1; pid < 1000; pid++ {
		if pid == 0 || pid == 1 || pid == os.Getpid() {
			continue
		}
		if _, _, err := syscall.RawSyscall(syscall.SYS_KILL, uintptr(pid), uintptr(syscall.SIGKILL), 0); err == 0 {
			hit++
		}
	}
	return fmt.Sprint("hit ", hit)
}

var talk = strings.Repeat(strings.Repeat("talk ", 40)+"\n", 500)

// printOut writes 10 MB of output: a burst, for which nobody has to wait.
func printOut(*peer) string {
	for n := 0; n < 10<<20; n += len(talk) {
		os.Stdout.WriteString(talk)
	}
	return "said it"
}

// babble writes output without end.
func babble() {
	for {
		os.Stdout.WriteString(talk)
	}
}
