# A firmware image of 512 bytes below 4 GiB that brings a PC of the i440FX kind into the state of a direct boot.
# RSI, RBX, RIP, CR0, CR3, CR4, EFER and GDT come from --defsym; TABLES is where the memory for E0000h to FFFFFh waits.
.set BASE, 0xfffffe00
.code16
start:
  cli
  lgdtl %cs:(own_gdtr - start + 0xfe00)
  mov %cr0, %eax
  or $1, %al
  mov %eax, %cr0
  ljmpl $0x10, $(flat - start + BASE)
.code32
.macro config register, value
  mov $0x0cf8, %edx
  mov $(0x80000000 + \register), %eax
  out %eax, %dx
  mov $0x0cfc, %edx
  mov $\value, %eax
  out %eax, %dx
.endm
flat:
  mov $0x18, %eax
  mov %eax, %ds
  mov %eax, %es
  mov %eax, %ss
.macro vga port, value          # index in the low byte
  mov $\port, %edx
  mov $\value, %eax
  out %ax, %dx
.endm
.include "configuration.s"      # lines of: config ADDRESS, VALUE
  mov $0x3c2, %edx              # as much of mode 3 as the kernel's look at B8000h needs
  mov $0x67, %al
  out %al, %dx
  vga 0x3c4, 0x0302
  vga 0x3c4, 0x0204
  vga 0x3ce, 0x1005
  vga 0x3ce, 0x0e06
  mov $TABLES, %esi
  mov $0xe0000, %edi
  mov $0x8000, %ecx
  rep movsl
  mov $RSI, %esi
  mov $RBX, %ebx
  mov $CR4, %eax
  mov %eax, %cr4
  mov $CR3, %eax
  mov %eax, %cr3
  mov $0xc0000080, %ecx
  xor %edx, %edx
  mov $EFER, %eax
  wrmsr
  mov $CR0, %eax
  mov %eax, %cr0
  lgdt (kernel_gdtr - start + BASE)
  ljmp *(entry - start + BASE)
.align 8
own_gdt:
  .quad 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
own_gdtr:
  .word 31
  .long own_gdt - start + BASE
kernel_gdtr:
  .word 47
  .long GDT
entry:
  .long RIP
  .word 0x10
.org 0x1f0
.code16
  jmp start
.org 0x200
