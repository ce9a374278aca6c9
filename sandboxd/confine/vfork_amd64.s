#include "textflag.h"

// func vforkClone3(args *cloneArgs) (pid uintptr, errno uintptr)
//
// clone3 with CLONE_VM and CLONE_VFORK: the child runs on this very stack until it
// execs or exits, and what it pushes overwrites what lies there. The
// return address is therefore kept in a register over the call: the child
// returns first, and its later calls destroy the slot; the parent puts it back.
TEXT ·vforkClone3(SB), NOSPLIT|NOFRAME, $0-24
	MOVQ	args+0(FP), DI
	MOVQ	$88, SI
	MOVQ	$435, AX
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	NEGQ	AX
	MOVQ	$0, pid+8(FP)
	MOVQ	AX, errno+16(FP)
	RET
ok:
	MOVQ	AX, pid+8(FP)
	MOVQ	$0, errno+16(FP)
	RET
