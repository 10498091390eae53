"""Pushes each file as an artifact with oras. Arguments: the registry, a user, the password, and files."""

import sys

from oras.client import OrasClient

registry, user, password, *files = sys.argv[1:]
client = OrasClient(hostname=registry, insecure=False, auth_backend="basic")
client.auth.set_basic_auth(user, password)
for number, file in enumerate(files):
    target = f"{registry}/files:{number}"
    response = client.push(target=target, files=[file], disable_path_validation=True)
    assert response.status_code == 201, response
