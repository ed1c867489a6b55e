# Archivos tar y ar, y los árboles que salen de ellos.
UNP001 = el archivo está dañado ({ $what })
    .hint = descárgalo o créalo otra vez
UNP002 = el archivo quiere escribir en { $path }, fuera de su árbol
    .hint = no se fíe de este archivo; mire qué contiene con tar --list
UNP003 = no se puede escribir { $path }
    .hint = df -h dice si el disco está lleno; el árbol no debe estar montado de solo lectura
UNP004 = no se puede leer el archivo
    .hint = compruebe el disco o la conexión de donde viene, e inténtelo de nuevo
UNP005 = aquí no se leen ni escriben archivos comprimidos con { $codec }
    .hint = use .tar, .tar.gz, .tar.zst o (para leer) .tar.xz
UNP006 = { $path } pertenece al usuario { $uid } y al grupo { $gid }, que no existen en el espacio de nombres
    .hint = cree el archivo con propietarios menores que 65536
UNP007 = no se puede leer { $path } al empaquetarlo
    .hint = compruebe que el archivo existe y se puede leer
UNP008 = { $path } ya existe y es otra cosa (un directorio, un dispositivo, una tubería)
    .hint = elija otro destino, o bórrelo antes
