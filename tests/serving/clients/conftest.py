"""These run in environments of their own, where what they import is."""

collect_ignore_glob = ["*_client.py"]
