# Palabras que usan varias partes.
yes = sí
no = no
fault-untold = ha ocurrido un error para el que este programa no tiene palabras { $details }
