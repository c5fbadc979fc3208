"""Sixteen logical CPU devices, so that replicas can be tested without a GPU."""
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 16)
