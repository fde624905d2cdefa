/*
 * What a PC without UEFI runs first: the code of the disk's first sector, at most 440 bytes. It loads
 * Linux by its 16-bit boot protocol (Documentation/arch/x86/boot.rst) from consecutive sectors: the
 * setup code with all its fields filled in and the command line behind, the kernel, the first file
 * system. bios.ts has what this assembles to, and puts in the numbers at `first`:
 *
 *   as --32 -o bios-boot.o bios-boot.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o bios-boot.bin bios-boot.o
 */
  .code16
  .globl _start
_start:
  xor %ax, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %ss
  mov $0x7c00, %sp
  ljmp $0, $begin
begin:
  cld
  sti
  mov %dl, drive
  /* The setup code, as it is on the disk: 120 sectors at 0x10000. */
  call read
  movw $0x2000, to_segment
  mov kernel, %eax
  movl $0x100000, target
  call load
  mov initramfs, %eax
  movl $0xc000000, target
  call load
  cli
  mov $0x1000, %ax
  mov %ax, %ds
  mov %ax, %es
  mov %ax, %fs
  mov %ax, %gs
  mov %ax, %ss
  mov $0xe000, %sp
  ljmp $0x1020, $0

/* %eax sectors to `target`, above what real mode reaches: 32 KiB at a time by way of 0x20000. */
load:
  test %eax, %eax
  jz 3f
  mov $64, %ecx
  cmp %ecx, %eax
  jae 1f
  mov %eax, %ecx
1:
  mov %cx, count
  push %eax
  push %ecx
  call read
  pop %ecx
  push %ecx
  mov target, %eax
  mov %ax, to_base
  shr $16, %eax
  mov %al, to_base + 2
  mov %ah, to_base + 5
  /* In words. */
  shl $8, %cx
  mov $descriptors, %si
  mov $0x87, %ah
  int $0x15
  jc fail
  pop %ecx
  mov %ecx, %ebx
  shl $9, %ebx
  add %ebx, target
  pop %eax
  sub %ecx, %eax
  jmp load
3:
  ret

/* The next `count` sectors to `to_segment`. */
read:
  mov $packet, %si
  mov drive, %dl
  mov $0x42, %ah
  int $0x13
  jc fail
  movzwl count, %eax
  add %eax, first
  adcl $0, first + 4
  ret

fail:
  mov $message, %si
1:
  lodsb
  test %al, %al
  jz 2f
  mov $0x0e, %ah
  xor %bx, %bx
  int $0x10
  jmp 1b
2:
  hlt
  jmp 2b

message:
  .asciz "mayfly: the disk cannot be read\r\n"
drive:
  .byte 0
  .balign 4
target:
  .long 0
/* What the BIOS copies between, as segments of protected mode. */
descriptors:
  .fill 16, 1, 0
  .byte 0xff, 0xff, 0, 0, 2, 0x93, 0, 0
  .byte 0xff, 0xff
to_base:
  .byte 0, 0, 0, 0x93, 0, 0
  .fill 16, 1, 0

  .org 416
packet:
  .byte 16, 0
count:
  .word 120
  .word 0
to_segment:
  .word 0x1000
first:
  .quad 0
kernel:
  .long 0
initramfs:
  .long 0
  .org 440
