# El almacén del demonio.
STO001 = no se puede leer o escribir el almacén { $path }
    .hint = compruebe el disco con `df -h` y `dmesg`; con el demonio parado se puede reponer una copia del fichero
STO002 = alguien más cambió { $key } al mismo tiempo
    .hint = inténtalo de nuevo
STO003 = otro demonio tiene abierto el almacén { $path }
    .hint = posada version
STO004 = el almacén { $path } lo escribió un Posada más nuevo (formato { $format })
    .hint = instale esa versión, o reponga la copia que hizo junto al almacén (*.format*)
STO005 = no se entiende el registro { $key } del almacén
    .hint = posada doctor
