doctor-clock = clock
doctor-space = free space
doctor-executables = programs of Posada
doctor-proxy = proxy
doctor-group = group of users
