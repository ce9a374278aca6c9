#include "textflag.h"

// func vforkClone3(args *cloneArgs) (pid uintptr, errno uintptr)
//
// See vfork_amd64.s. Here the return address is in the link register already, and a
// function without a frame never spills it.
TEXT ·vforkClone3(SB), NOSPLIT|NOFRAME, $0-24
	MOVD	args+0(FP), R0
	MOVD	$88, R1
	MOVD	$435, R8
	SVC
	CMN	$4095, R0
	BCC	ok
	NEG	R0, R0
	MOVD	ZR, pid+8(FP)
	MOVD	R0, errno+16(FP)
	RET
ok:
	MOVD	R0, pid+8(FP)
	MOVD	ZR, errno+16(FP)
	RET
