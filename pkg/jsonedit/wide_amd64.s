#include "textflag.h"
#include "go_asm.h"

// What may stand behind a backslash is found by the two halves of a byte: those with the same
// upper half share a bit, which the lower halves of all of them have. The upper half 2 (quote,
// slash) has bit 0, 5 (backslash) bit 1, 6 (b, f, n) bit 2, 7 (r, t) bit 3.
DATA lower<>+0(SB)/8, $0x00040008000d0000
DATA lower<>+8(SB)/8, $0x0104000200000000
GLOBL lower<>(SB), RODATA|NOPTR, $16

DATA upper<>+0(SB)/8, $0x0804020000010000
DATA upper<>+8(SB)/8, $0x0000000000000000
GLOBL upper<>(SB), RODATA|NOPTR, $16

// What two bytes in a row can be that is not UTF-8, a bit for each kind: by the upper half of the
// first, its lower half, and the upper half of the second. It is what all three have. The bits
// are, from the lowest on: a character cut short, a byte too many, 3 bytes for what needs 2, more
// than the last character, half a surrogate pair, 2 bytes for what needs 1, 4 bytes for what needs
// 3 (or far more than the last character), two bytes behind a first one. (John Keiser and Daniel
// Lemire: Validating UTF-8 in less than one instruction per byte.)
DATA firstUpper<>+0(SB)/8, $0x0202020202020202
DATA firstUpper<>+8(SB)/8, $0x4915012180808080
GLOBL firstUpper<>(SB), RODATA|NOPTR, $16

DATA firstLower<>+0(SB)/8, $0xcbcbcb8b8383a3e7
DATA firstLower<>+8(SB)/8, $0xcbcbdbcbcbcbcbcb
GLOBL firstLower<>(SB), RODATA|NOPTR, $16

DATA secondUpper<>+0(SB)/8, $0x0101010101010101
DATA secondUpper<>+8(SB)/8, $0x01010101babaaee6
GLOBL secondUpper<>(SB), RODATA|NOPTR, $16

// Quote, backslash, the last control character, half a byte; then what leaves the highest bit of
// a byte that begins 3 bytes or more when it is taken off, the same for 4, and that bit.
DATA bytes<>+0(SB)/8, $0x008070600f1f5c22
GLOBL bytes<>(SB), RODATA|NOPTR, $8

// MARK gathers in TO a bit of each byte of A and B, the highest.
#define MARK(A, B, TO) \
	VPMOVMSKB A, TO;  \
	VPMOVMSKB B, CX;  \
	SHLQ      $32, CX; \
	ORQ       CX, TO

// CHARACTERS gathers in TO the bytes of A, which lie at OFFSET, that go on with UTF-8.
#define CHARACTERS(A, OFFSET, TO) \
	VMOVDQU      (OFFSET-1)(SI), Y2;  \
	VPSRLW       $4, Y2, Y3;          \
	VPAND        Y11, Y3, Y3;         \
	VPSHUFB      Y3, Y4, Y3;          \
	VPAND        Y11, Y2, Y2;         \
	VPSHUFB      Y2, Y5, Y2;          \
	VPAND        Y2, Y3, Y3;          \
	VPSRLW       $4, A, Y2;           \
	VPAND        Y11, Y2, Y2;         \
	VPSHUFB      Y2, Y6, Y2;          \
	VPAND        Y2, Y3, Y3;          \
	VMOVDQU      (OFFSET-2)(SI), Y2;  \
	VPSUBUSB     Y7, Y2, Y2;          \
	VMOVDQU      (OFFSET-3)(SI), Y15; \
	VPSUBUSB     Y14, Y15, Y15;       \
	VPOR         Y15, Y2, Y2;         \
	VPBROADCASTB bytes<>+6(SB), Y15;  \
	VPAND        Y15, Y2, Y2;         \
	VPXOR        Y2, Y3, Y3;          \
	VPXOR        Y2, Y2, Y2;          \
	VPCMPEQB     Y2, Y3, Y3;          \
	VPMOVMSKB    Y3, TO

// func pass(p *byte, n int, b *block) (passed int)
TEXT ·pass(SB), NOSPLIT, $0-32
	MOVQ           p+0(FP), SI
	MOVQ           n+8(FP), DX
	MOVQ           b+16(FP), DI
	MOVQ           block_carry(DI), R8
	XORQ           R9, R9                  // backslashes of the blocks that were passed
	MOVQ           $0xaaaaaaaaaaaaaaaa, R13
	VPBROADCASTB   bytes<>+0(SB), Y8
	VPBROADCASTB   bytes<>+1(SB), Y9
	VPBROADCASTB   bytes<>+2(SB), Y10
	VPBROADCASTB   bytes<>+3(SB), Y11
	VBROADCASTI128 lower<>(SB), Y12
	VBROADCASTI128 upper<>(SB), Y13

next:
	VMOVDQU  (SI), Y0
	VMOVDQU  32(SI), Y1
	VPCMPEQB Y8, Y0, Y2
	VPCMPEQB Y8, Y1, Y3
	MARK(Y2, Y3, R10)       // quotes
	VPCMPEQB Y9, Y0, Y2
	VPCMPEQB Y9, Y1, Y3
	MARK(Y2, Y3, R11)       // backslashes
	VPMINUB  Y10, Y0, Y2
	VPMINUB  Y10, Y1, Y3
	VPCMPEQB Y2, Y0, Y2
	VPCMPEQB Y3, Y1, Y3
	MARK(Y2, Y3, AX)        // control characters
	XORQ     R12, R12       // not UTF-8
	VPOR     -3(SI), Y0, Y2 // a character may have begun before
	VPOR     Y1, Y2, Y2
	VPMOVMSKB Y2, CX
	TESTL    CX, CX
	JNZ      beyond

letters:
	VPSHUFB  Y0, Y12, Y2
	VPSHUFB  Y1, Y12, Y3
	VPSRLW   $4, Y0, Y0
	VPSRLW   $4, Y1, Y1
	VPAND    Y11, Y0, Y0
	VPAND    Y11, Y1, Y1
	VPSHUFB  Y0, Y13, Y0
	VPSHUFB  Y1, Y13, Y1
	VPAND    Y0, Y2, Y0
	VPAND    Y1, Y3, Y1
	VPXOR    Y2, Y2, Y2
	VPCMPEQB Y2, Y0, Y0
	VPCMPEQB Y2, Y1, Y1
	MARK(Y0, Y1, BX)        // what stands behind no backslash

	// What the backslashes escape: what is behind an odd number of them. The subtraction finds
	// where rows of them end, for all rows at once, and whether that is at an odd distance from
	// where they begin: from there on every second one escapes.
	MOVQ R8, DI
	NOTQ DI
	ANDQ R11, DI            // but for one that is escaped itself
	LEAQ (DI)(DI*1), CX
	ORQ  R13, CX
	SUBQ DI, CX
	XORQ R13, CX
	MOVQ R11, DI
	ORQ  R8, DI
	XORQ CX, DI             // escaped
	ANDQ R11, CX
	SHRQ $63, CX
	MOVQ CX, R8             // and whether the first byte of the next block is
	ANDQ DI, BX
	NOTQ DI
	ANDQ DI, R10

	MOVQ R10, CX
	ORQ  AX, CX
	ORQ  R12, CX
	ORQ  BX, CX
	JNZ  seen
	ORQ  R11, R9
	ADDQ $64, SI
	DECQ DX
	JNZ  next
	XORQ R11, R11
	JMP  seen

	// There are bytes beyond ASCII.
beyond:
	VBROADCASTI128 firstUpper<>(SB), Y4
	VBROADCASTI128 firstLower<>(SB), Y5
	VBROADCASTI128 secondUpper<>(SB), Y6
	VPBROADCASTB   bytes<>+4(SB), Y7
	VPBROADCASTB   bytes<>+5(SB), Y14
	CHARACTERS(Y0, 0, R12)
	CHARACTERS(Y1, 32, CX)
	SHLQ           $32, CX
	ORQ            CX, R12
	NOTQ           R12
	JMP            letters

seen:
	VZEROUPPER
	MOVQ b+16(FP), DI
	MOVQ R8, block_carry(DI)
	MOVQ R9, block_before(DI)
	MOVQ R10, block_quotes(DI)
	MOVQ R11, block_slashes(DI)
	MOVQ AX, block_controls(DI)
	MOVQ R12, block_broken(DI)
	MOVQ BX, block_odd(DI)
	MOVQ n+8(FP), AX
	SUBQ DX, AX
	MOVQ AX, passed+24(FP)
	RET
