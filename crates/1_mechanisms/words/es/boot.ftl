# Con qué arranca una máquina: núcleos, initrd, firmware.
BOT001 = este archivo no es un núcleo ({ $what })
    .hint = indique un bzImage (vmlinuz) o un núcleo ELF (vmlinux); las imágenes ISO se arrancan con --iso
BOT002 = el núcleo está incompleto: el archivo tiene { $have } bytes y debería tener { $need }
    .hint = descárguelo o cópielo de nuevo
BOT003 = el núcleo está hecho para { $architecture } y no para x86
    .hint = tome el núcleo de un sistema amd64 o i386
BOT004 = el núcleo es demasiado antiguo para arrancarlo directamente (protocolo de arranque { $version })
    .hint = arránquelo desde su disco con el firmware y su propio gestor de arranque
BOT005 = el núcleo necesita { $need } MiB de memoria para arrancar, y la máquina tiene { $memory }
    .hint = dé más memoria a la máquina con --memory
BOT006 = el initrd ocupa { $size } MiB, y hay sitio para { $room }
    .hint = dé más memoria a la máquina con --memory, o haga más pequeño el initrd (MODULES=dep en /etc/initramfs-tools/initramfs.conf)
BOT007 = la línea de órdenes del núcleo tiene { $length } caracteres; el núcleo lee { $limit }
    .hint = acorte lo que da --append
BOT008 = la línea de órdenes del núcleo contiene un carácter NUL
    .hint = compruebe lo que da --append
BOT009 = el núcleo no tiene entrada { $entry }
    .hint = no elija la entrada; se encuentra sola
BOT010 = una máquina no puede tener { $memory } bytes de memoria
    .hint = indique MiB enteros, al menos 2 y menos de lo que el procesador puede direccionar ({ $most } MiB)
BOT011 = una máquina no puede tener { $cpus } procesadores
    .hint = indique de 1 a { $most }
BOT012 = este archivo no es una imagen de firmware ({ $what })
    .hint = ejecute apt-get install seabios y use /usr/share/seabios/bios-256k.bin
BOT013 = el archivo cpio está dañado ({ $what })
    .hint = cree el initrd de nuevo: update-initramfs -u
