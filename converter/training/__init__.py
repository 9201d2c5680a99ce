"""Training with Keras. Its modules run in child processes: TensorFlow can abort the interpreter."""
