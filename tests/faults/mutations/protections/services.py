"""Protections in the adapters of the other services of AWS, and in the provisioner that uses
them."""

from tests.faults.mutations.mutation import removes

SQS, ERRORS, EC2 = "taskfleet/aws/sqs.py", "taskfleet/aws/errors.py", "taskfleet/aws/ec2.py"
TEST_SQS = "tests/contract/test_aws_sqs.py"
RECONCILE = "taskfleet/provisioner/reconcile.py"
PROTECTIONS = (
    removes(
        "messages that SQS did not take are sent again",
        SQS,
        '                    retry_ids.add(failure["Id"])',
        "                    pass",
        TEST_SQS,
    ),
    removes(
        "a dead letter is sent before its message is deleted (SQS)",
        SQS,
        "        dead = self._dead_letters\n",
        "        dead = self._dead_letters\n        self.delete([message])\n",
        TEST_SQS,
    ),
    removes(
        "a receipt that is no longer valid is told (SQS)",
        SQS,
        '                    stale_ids.append(failure["Id"])',
        "                    continue",
        TEST_SQS,
    ),
    removes(
        "an error of the service is no answer (AWS)",
        ERRORS,
        "if is_transient(code) or status >= 500 or status == 429:",
        "if is_transient(code):",
        "tests/contract/test_aws_errors.py",
    ),
    removes(
        "a call without an answer may have taken effect (AWS)",
        ERRORS,
        "    if isinstance(error, _NO_RESPONSE):\n",
        "    if isinstance(error, _NO_RESPONSE) and not error.args:\n",
        "tests/contract/test_aws_errors.py",
    ),
    removes(
        "expired credentials are waited for (AWS)",
        ERRORS,
        '        "ExpiredToken",\n',
        "",
        "tests/contract/test_aws_errors.py",
    ),
    removes(
        "another content under the key of an upload is not read (S3)",
        "taskfleet/aws/s3.py",
        'condition: Any = {} if etag is None else {"IfMatch": etag}',
        "condition: Any = {}",
        "tests/contract/test_contract_store.py",
    ),
    removes(
        "a launch that is asked for again is the same launch (EC2)",
        EC2,
        "                ClientToken=token,\n",
        "",
        "tests/functional/test_provision_on_aws.py",
    ),
    removes(
        "a launch whose outcome is unknown is asked for again under its token",
        RECONCILE,
        "                return earlier\n",
        "                pass\n",
        "tests/unit/test_provisioner.py",
    ),
    removes(
        "of two rounds of the provisioner at once, one does nothing",
        RECONCILE,
        '            _log.info("another round was faster", extra=fields("look_overtaken"))\n'
        "            return None\n",
        '            _log.info("another round was faster", extra=fields("look_overtaken"))\n',
        "tests/unit/test_provisioner.py",
        "tests/unit/test_provisioner_at_once.py",
    ),
    removes(
        "a worker that signed off is remembered while its machine is there",
        "taskfleet/provisioner/observe.py",
        " if w.signed_off and w.instance_id not in there]",
        " if w.signed_off]",
        "tests/unit/test_provisioner.py",
    ),
    removes(
        "a worker's last report is listed until it is forgotten",
        "taskfleet/memory/fleet.py",
        "                self._workers[worker.worker_id] = worker\n\n    def forget",
        "                self._workers.pop(worker.worker_id, None)\n\n    def forget",
        "tests/unit/test_provisioner.py",
    ),
)
