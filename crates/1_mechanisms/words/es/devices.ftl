# Dispositivos de las máquinas.
DEV001 = el estado guardado de un dispositivo no encaja
    .hint = lo guardó una versión más nueva de Posada, o está dañado; arranque el huésped de nuevo: posada start --fresh NOMBRE
