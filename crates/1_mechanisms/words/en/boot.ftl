# What a machine starts with: kernels, initrds, firmware.
BOT001 = this file is not a kernel ({ $what })
    .hint = give a bzImage (vmlinuz) or an ELF kernel (vmlinux); boot ISO images with --iso
BOT002 = the kernel is cut short: the file has { $have } bytes and should have { $need }
    .hint = fetch or copy it again
BOT003 = the kernel is made for { $architecture } and not for x86
    .hint = take the kernel of an amd64 or i386 system
BOT004 = the kernel is too old to be started directly (boot protocol { $version })
    .hint = boot it from its disk through the firmware, with its own boot loader
BOT005 = the kernel needs { $need } MiB of memory to start, and the machine has { $memory }
    .hint = give the machine more with --memory
BOT006 = the initrd has { $size } MiB, and there is room for { $room }
    .hint = give the machine more with --memory, or make the initrd smaller (MODULES=dep in /etc/initramfs-tools/initramfs.conf)
BOT007 = the kernel's command line has { $length } characters; the kernel reads { $limit }
    .hint = shorten what --append gives
BOT008 = the kernel's command line has a NUL character inside
    .hint = check what --append gives
BOT009 = the kernel has no { $entry } entry
    .hint = leave the choice of the entry out; it is found by itself
BOT010 = a machine cannot have { $memory } bytes of memory
    .hint = give whole MiB, at least 2 and less than what the processor can address ({ $most } MiB)
BOT011 = a machine cannot have { $cpus } processors
    .hint = give 1 to { $most }
BOT012 = this file is not a firmware image ({ $what })
    .hint = apt-get install seabios, and use /usr/share/seabios/bios-256k.bin
BOT013 = the cpio archive is damaged ({ $what })
    .hint = make the initrd again: update-initramfs -u
