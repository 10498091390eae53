"""Sends requests that are answered before their bodies have been read, and says which answers are lost.

Arguments: the base URL, the file of the authority, the credentials, and a file of requests, one JSON object
a line. Each is sent by http.client and by requests, on a connection of its own and on one that is kept.
"""

import base64
import http.client
import json
import ssl
import sys
from urllib.parse import urlsplit

import requests

base, authority, credentials, file = sys.argv[1:]
context = ssl.create_default_context(cafile=authority)
address = urlsplit(base).netloc
basic = "Basic " + base64.b64encode(credentials.encode()).decode()
kept_connection = [None]
session = requests.Session()
session.verify = authority
session.trust_env = False


def by_http_client(case, headers, body, keep):
    connection = kept_connection[0] if keep else None
    if connection is None:
        connection = http.client.HTTPSConnection(address, context=context, timeout=30)
    try:
        connection.request(case["method"], case["path"], body=body, headers=headers)
        response = connection.getresponse()
        response.read()
    except BaseException:
        kept_connection[0] = None
        raise
    if keep:
        kept_connection[0] = connection
    else:
        connection.close()
    return response.status


def by_requests(case, headers, body, keep):
    send = session.request if keep else lambda *a, **k: requests.request(*a, verify=authority, **k)
    return send(case["method"], base + case["path"], data=body, headers=headers, timeout=30).status_code


def in_chunks(body):
    for at in range(0, len(body), 8192):
        yield body[at : at + 8192]


answered = 0
with open(file) as lines:
    for line in lines:
        case = json.loads(line)
        for send in (by_http_client, by_requests):
            for keep in (False, True):
                for chunked in (False, True):
                    headers = dict(case["headers"])
                    if case["authenticated"]:
                        headers["Authorization"] = basic
                    body = b"x" * case["size"]
                    if chunked:
                        body = in_chunks(body)
                    try:
                        status = send(case, headers, body, keep)
                    except Exception as error:
                        status = repr(error)
                    if status == case["expected"]:
                        answered += 1
                    else:
                        print("lost:", send.__name__, f"{keep=} {chunked=}", line.strip(), status)
print("answered:", answered)
