"""The ncnn engine: a Keras model as ncnn's text format, and its dense layers by BLAS."""
