"""The bundled subset of Fashion-MNIST, its MIT notice and the script that cuts it."""
