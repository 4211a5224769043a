"""Tests of skembed.frames."""
