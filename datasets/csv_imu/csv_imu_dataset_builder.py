"""Bring your own data: CSV or npz files and small tables; see README.md."""

from imu2clip_jax.recordings import csv_folder

NAME = "csv_imu"
VERSION = "1.0.0"
FIND = csv_folder.find
WINDOWS = {}
ABOUT = {"source": "a folder of CSV or npz files"}
