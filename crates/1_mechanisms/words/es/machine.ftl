# Máquinas: el proceso que es una.
MAC001 = no se pudo crear el hilo { $thread } de la máquina
    .hint = el anfitrión tiene demasiados procesos o muy poca memoria: `ulimit -u`, `free -m`
