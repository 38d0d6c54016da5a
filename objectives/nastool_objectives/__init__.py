"""Objectives that come with nastool: parameter counts and predicted quality."""
