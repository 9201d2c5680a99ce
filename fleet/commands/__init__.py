"""One module per command of `edgeferry`, each loaded when it is used."""
