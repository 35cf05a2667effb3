"""Protections in the table on DynamoDB."""

from tests.faults.mutations.mutation import Edit, removes
from tests.faults.mutations.protections.memory import BATCH, BUNDLE, OPEN

BUNDLES, BATCHES = "taskfleet/aws/dynamodb/bundles.py", "taskfleet/aws/dynamodb/batches.py"
TABLE, PROGRESS = "taskfleet/aws/dynamodb/table.py", "taskfleet/aws/dynamodb/progress.py"
PAGES, PACKING = "taskfleet/aws/dynamodb/pages.py", "taskfleet/aws/dynamodb/packing.py"
LOST_REPLIES, ERRORS = "tests/contract/test_aws_table.py", "tests/contract/test_aws_errors.py"
PROTECTIONS = (
    removes(
        "a live lease of another worker is respected (DynamoDB)",
        BUNDLES,
        '" OR (#status = :running AND #expires_at < :now)"',
        '" OR (#status = :running AND (#expires_at < :now OR #expires_at >= :now))"',
        BUNDLE,
    ),
    removes(
        "fence of renewal, commit and release: the owner (DynamoDB)",
        BUNDLES,
        '"#owner = :owner AND #attempt = :attempt AND #status = :running"',
        '"(#owner = :owner OR #owner <> :owner) AND #attempt = :attempt AND #status = :running"',
        BUNDLE,
    ),
    removes(
        "fence of renewal, commit and release: the attempt (DynamoDB)",
        BUNDLES,
        '"#owner = :owner AND #attempt = :attempt AND #status = :running"',
        '"#owner = :owner AND #attempt >= :attempt AND #status = :running"',
        BUNDLE,
    ),
    removes(
        "fence of renewal, commit and release: the status (DynamoDB)",
        BUNDLES,
        '"#owner = :owner AND #attempt = :attempt AND #status = :running"',
        '"#owner = :owner AND #attempt = :attempt AND (#status = :running OR #status <> :running)"',
        BUNDLE,
    ),
    removes(
        "fence of taking back a claim (DynamoDB)",
        BUNDLES,
        '"#owner = :owner AND #status = :running",',
        '"(#owner = :owner OR #owner <> :owner) AND #status = :running",',
        BUNDLE,
    ),
    removes(
        "a claim that is sent again is the same claim (DynamoDB)",
        BUNDLES,
        "            claimant=owner,\n",
        '            claimant=owner + "?",\n',
        BUNDLE,
        LOST_REPLIES,
    ),
    removes(
        "a commit or release that is sent again changes nothing (DynamoDB)",
        BUNDLES,
        "if status is BundleStatus.RUNNING or not is_repeated:",
        "if status is BundleStatus.RUNNING or is_repeated or not is_repeated:",
        BUNDLE,
        LOST_REPLIES,
    ),
    removes(
        "results too large for an item are stored before it points to them (DynamoDB)",
        PACKING,
        "        key = spill.put(self._store, data)\n",
        "        import hashlib\n\n"
        "        key = spill.PREFIX + hashlib.sha256(data).hexdigest()\n"
        "        self.later = data\n",
        LOST_REPLIES,
        BUNDLE,
        also=(
            Edit(
                BUNDLES,
                "        except ConditionFailed as failure:\n            item = failure.item or {}",
                "            if packed.clauses.startswith('#spill'):\n"
                "                self._packing._store.put(\n"
                "                    packed.values[':spill']['S'],\n"
                "                    self._packing.later,\n"
                "                    content_type='application/octet-stream',\n"
                "                )\n"
                "        except ConditionFailed as failure:\n            item = failure.item or {}",
            ),
        ),
    ),
    removes(
        "a write that meets another one is made again (DynamoDB)",
        TABLE,
        "                if next(tries, None) is None:\n                    raise",
        "                raise",
        ERRORS,
    ),
    removes(
        "keys that a read leaves out are asked for again (DynamoDB)",
        TABLE,
        'unprocessed = response.get("UnprocessedKeys")',
        "unprocessed = None",
        ERRORS,
    ),
    removes(
        "an item is read as it was written last (DynamoDB)",
        TABLE,
        'Key={"Job_ID": wire_text(key)}, ConsistentRead=True',
        'Key={"Job_ID": wire_text(key)}, ConsistentRead=False',
        LOST_REPLIES,
    ),
    removes(
        "items are read as they were written last (DynamoDB)",
        TABLE,
        '"ConsistentRead": True,',
        '"ConsistentRead": False,',
        ERRORS,
        LOST_REPLIES,
        BUNDLE,
        BATCH,
    ),
    removes(
        "a batch is recorded once (DynamoDB)",
        TABLE,
        'ConditionExpression="attribute_not_exists(Job_ID)",',
        'ConditionExpression="attribute_not_exists(Job_ID) OR attribute_exists(Job_ID)",',
        BATCH,
    ),
    removes(
        "each bundle is counted once (DynamoDB)",
        PROGRESS,
        '(NOT contains(#counted, {n}))" for n in numbers',
        '(attribute_not_exists(#none) OR contains(#counted, {n}))" for n in numbers',
        BATCH,
    ),
    removes(
        "a bundle or task that the batch lacks is not counted (DynamoDB)",
        PROGRESS,
        '_HAS = "#bundles > :last_bundle AND #total > :last_index AND "',
        '_HAS = "(#bundles > :last_bundle OR #total > :last_index OR #bundles > #ttl) AND "',
        BATCH,
    ),
    removes(
        "a page is added to its batch once (DynamoDB)",
        PAGES,
        'condition="#folded_to = :number AND (NOT contains(#folded, :end))",',
        'condition="(#folded_to <= :number OR #folded_to > :end OR #folded_to = :end)",',
        "tests/contract/test_aws_pages.py",
        LOST_REPLIES,
        BATCH,
    ),
    removes(
        "answers of a page that is added up count no more (DynamoDB)",
        PROGRESS,
        "elif known and not is_folded(batch, page):",
        "elif known:",
        "tests/contract/test_aws_pages.py",
        LOST_REPLIES,
        BATCH,
    ),
    removes(
        "a part whose reply was lost is the same part (DynamoDB)",
        BATCHES,
        "                return batch\n            return None\n\n    def close_batch",
        "                return None\n            return None\n\n    def close_batch",
        LOST_REPLIES,
        OPEN,
    ),
    removes(
        "an open batch is closed by its own client only (DynamoDB)",
        BATCHES,
        '"attribute_not_exists(#cancelled_at) AND #closed = :false" + _OF_CLIENT,',
        '"attribute_not_exists(#cancelled_at) AND #closed = :false"\n'
        '            " AND (#client_id = :client OR #client_id <> :client)",',
        OPEN,
    ),
    removes(
        "what is enqueued never falls (DynamoDB)",
        BATCHES,
        'condition="attribute_exists(#Job_ID) AND #enqueued < :tasks",',
        'condition="(#enqueued < :tasks OR #enqueued >= :tasks)",',
        BATCH,
    ),
    removes(
        "a schedule is advanced from what it was only (DynamoDB)",
        "taskfleet/aws/dynamodb/schedules.py",
        '"#made_at = :made_at AND #created_at = :before",',
        '"#made_at <= :made_at AND (#created_at >= :before OR #created_at < :before)",',
        "tests/contract/test_contract_schedules.py",
    ),
    removes(
        "the first result under a key stays (DynamoDB)",
        "taskfleet/aws/dynamodb/reuse.py",
        '"attribute_not_exists(#kept)",',
        '"attribute_not_exists(#kept) OR attribute_exists(#kept)",',
        "tests/contract/test_contract_reuse.py",
    ),
)
