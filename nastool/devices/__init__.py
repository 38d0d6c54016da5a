"""Devices: what deployed architectures run on, and how long they take there."""

from nastool.devices.base import Device, Timing, check_device, timing_of
from nastool.devices.deployment import Deployment, Workload

__all__ = ["Deployment", "Device", "Timing", "Workload", "check_device", "timing_of"]
