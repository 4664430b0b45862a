"""SQS queue → SQS queue as a plain loop on boto3: receive ten, send them, delete them.

python -m benchmarks.bare.sqs_loop ENDPOINT FROM TO
"""

from __future__ import annotations

import sys

import boto3


def main(endpoint: str, source: str, target: str) -> None:
    client = boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="x",
        aws_secret_access_key="y",
    )
    count = 0
    while True:
        messages = client.receive_message(
            QueueUrl=source, MaxNumberOfMessages=10, WaitTimeSeconds=1
        ).get("Messages", [])
        if not messages:
            continue
        client.send_message_batch(
            QueueUrl=target,
            Entries=[{"Id": str(k), "MessageBody": m["Body"]} for k, m in enumerate(messages)],
        )
        client.delete_message_batch(
            QueueUrl=source,
            Entries=[
                {"Id": str(k), "ReceiptHandle": m["ReceiptHandle"]} for k, m in enumerate(messages)
            ],
        )
        count += len(messages)
        if count % 200 < len(messages):
            print(count, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
