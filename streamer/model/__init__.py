"""Network, training, artifact, store and runtime.

TensorFlow is imported by `network`, `training`, `export` and `fit` alone, which run in the training process;
all other modules are imported by the serving process and must not load it.
"""
