doctor-clock = reloj
doctor-space = espacio libre
doctor-executables = programas de Posada
doctor-proxy = proxy
doctor-group = grupo de usuarios
