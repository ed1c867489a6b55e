# Devices of machines.
DEV001 = the saved state of a device does not fit
    .hint = it was saved by a newer Posada, or it is damaged; start the guest anew: posada start --fresh NAME
