# The first process of the test: says so on the console and switches the machine off.
.globl _start
_start:
  mov $1, %eax                  # write
  mov $1, %edi
  lea words(%rip), %rsi
  mov $(end - words), %edx
  syscall
  mov $169, %eax                # reboot, LINUX_REBOOT_CMD_POWER_OFF
  mov $0xfee1dead, %edi
  mov $672274793, %esi
  mov $0x4321fedc, %edx
  syscall
  ud2
words:
  .ascii "the first process runs\n"
end:
