"""The two operations StyleGAN2 is built on besides convolution, each as a reference and as a native implementation."""
