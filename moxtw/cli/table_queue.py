"""Commands on the queue."""

from __future__ import annotations

from moxtw.cli.command import BOOL, BOOL_VALUE, IDS, INT, TEXT, Command, Flag

_WHEN = "as in '<now' or '>-1h': before (<) or after (>), then now or a time from now."

_IDS = Flag("ids", IDS, "Only messages with these ids, with commas between them.")
_ACCOUNT = Flag("account", TEXT, "Only messages that this account submitted.")
_FROM = Flag("from", TEXT, "Only messages from this address, or @domain.")
_TO = Flag("to", TEXT, "Only messages to this address, or @domain. With -from, one is enough.")
_SUBMITTED = Flag("submitted", TEXT, f"Only messages submitted then, {_WHEN}")
_TRANSPORT = Flag("transport", TEXT, "Only messages with this transport; '' is the default.")
_MOST = Flag("n", INT, "At most so many messages.")
_ASC = Flag("asc", BOOL, "Lowest first, in place of highest first.")

_JSON = Flag("json", BOOL, "Print all there is about each, as a list in JSON.")

_FILTER = (
    _ACCOUNT,
    _FROM,
    Flag("hold", BOOL_VALUE, "Only messages that are on hold, or that are not."),
    _IDS,
    _MOST,
    Flag("nextattempt", TEXT, f"Only messages that are due then, {_WHEN}"),
    _SUBMITTED,
    _TO,
    _TRANSPORT,
)
_RETIRED_FILTER = (
    _ACCOUNT,
    _FROM,
    _IDS,
    Flag("lastactivity", TEXT, f"Only messages of which the last attempt was then, {_WHEN}"),
    _MOST,
    Flag("result", "success|failure", "Only messages that were delivered, or that were not."),
    _SUBMITTED,
    _TO,
    _TRANSPORT,
)
_ALL_MEANT = "Without flags, all messages in the queue are meant."

_OUTGOING = "delivered|suppressed|delayed|failed|relayed|expanded|canceled|unrecognized"
_HOOK_ACCOUNT = Flag("account", TEXT, "Only calls for this account.")
_HOOK_EVENT = Flag(
    "event", f"{_OUTGOING}|incoming", "Only calls about this event, or about incoming messages."
)
_HOOK_IDS = Flag("ids", IDS, "Only calls with these ids, with commas between them.")
_HOOK_MOST = Flag("n", INT, "At most so many calls.")
_HOOK_SUBMITTED = Flag("submitted", TEXT, f"Only calls that were queued then, {_WHEN}")
_HOOK_FILTER = (
    _HOOK_ACCOUNT,
    _HOOK_EVENT,
    _HOOK_IDS,
    _HOOK_MOST,
    Flag("nextattempt", TEXT, f"Only calls that are due then, {_WHEN}"),
    _HOOK_SUBMITTED,
)
_ALL_CALLS = "Without flags, all calls that wait are meant."

QUEUE_COMMANDS = (
    Command(
        "queue list",
        "[filter flags] [sort flags]",
        "queue:list_",
        """List messages in the queue.

There is a line for each recipient of a message, with its id, times, number of attempts,
account, sender and recipient, and the last error.""",
        flags=(
            *_FILTER,
            Flag("sort", "nextattempt|queued", "Order, by default nextattempt."),
            _ASC,
            _JSON,
        ),
    ),
    Command(
        "queue hold",
        "[filter flags]",
        "queue:hold",
        f"""Put messages in the queue on hold: they are not sent until "moxtw queue unhold".

{_ALL_MEANT}""",
        flags=_FILTER,
    ),
    Command(
        "queue unhold",
        "[filter flags]",
        "queue:unhold",
        f"""Let messages go that are on hold. They are sent at their time for the next attempt.

{_ALL_MEANT}""",
        flags=_FILTER,
    ),
    Command(
        "queue schedule",
        "[filter flags] [-now] duration",
        "queue:schedule",
        f"""Change the time of the next attempt for messages in the queue.

The duration, such as 30m, 1h30m or -2h, is added to the time of the next attempt, or with -now
to the present time. "moxtw queue schedule -now 0s" sends at once. {_ALL_MEANT}""",
        (1, 1),
        (*_FILTER, Flag("now", BOOL, "Count from now, not from the time of the next attempt.")),
    ),
    Command(
        "queue transport",
        "[filter flags] transport",
        "queue:transport",
        f"""Set the transport for messages in the queue.

It is the name of one in mox.conf, or '' for what the routes say. {_ALL_MEANT}""",
        (1, 1),
        _FILTER,
    ),
    Command(
        "queue requiretls",
        "[filter flags] {yes | no | default}",
        "queue:requiretls",
        f"""Set what messages in the queue demand of TLS.

yes: they are delivered only with verified TLS, to servers that hand this demand on (RFC 8689).
no: also without verified TLS, even where the domain of the recipient asks for it. default: as
the domain of the recipient asks for. {_ALL_MEANT}""",
        (1, 1),
        _FILTER,
    ),
    Command(
        "queue fail",
        "[filter flags]",
        "queue:fail",
        f"""Give messages in the queue up, and tell their senders.

Each sender gets a message about what was not delivered. {_ALL_MEANT}""",
        flags=_FILTER,
    ),
    Command(
        "queue drop",
        "[filter flags]",
        "queue:drop",
        f"""Remove messages from the queue, without telling their senders.

{_ALL_MEANT}""",
        flags=_FILTER,
    ),
    Command(
        "queue dump",
        "id",
        "queue:dump",
        "Print a message in the queue.",
        (1, 1),
    ),
    Command(
        "queue retired list",
        "[filter flags] [sort flags]",
        "queue:retired_list",
        """List messages that are no longer in the queue.

They are kept for the KeepRetiredMessagePeriod of their account, after they were delivered or
have failed.""",
        flags=(
            *_RETIRED_FILTER,
            Flag("sort", "lastactivity|queued", "Order, by default lastactivity."),
            _ASC,
            _JSON,
        ),
    ),
    Command(
        "queue retired print",
        "id",
        "queue:retired_print",
        "Print what is kept about a message that is no longer in the queue, as JSON.",
        (1, 1),
    ),
    Command(
        "queue holdrules list",
        "",
        "queue:holdrules_list",
        "List the rules that put new messages on hold.",
        flags=(_JSON,),
    ),
    Command(
        "queue holdrules add",
        "[rule flags]",
        "queue:holdrules_add",
        """Add a rule that puts messages on hold.

It holds for messages in the queue, and for those that are submitted later. All that is given
must match; without flags the rule matches all messages.""",
        flags=(
            Flag("account", TEXT, "Messages that this account submits."),
            Flag("recipientdom", TEXT, "Messages to this domain."),
            Flag("senderdom", TEXT, "Messages from this domain."),
        ),
    ),
    Command(
        "queue holdrules remove",
        "rule-id",
        "queue:holdrules_remove",
        """Remove a rule that puts messages on hold.

Messages that are on hold stay so: "moxtw queue unhold" lets them go.""",
        (1, 1),
    ),
    Command(
        "queue suppress list",
        "[filter flags]",
        "queue:suppress_list",
        """List the addresses that accounts send nothing more to.

Addresses get there by themselves when deliveries to them fail for good, or are added.""",
        flags=(Flag("account", TEXT, "Only those of this account."), _JSON),
    ),
    Command(
        "queue suppress add",
        "account address",
        "queue:suppress_add",
        """Let an account send nothing more to an address.

Messages to it fail at once, and so do those to its variants: with other text behind a "+" or
"-", with dots, or with capitals before the "@".""",
        (2, 2),
    ),
    Command(
        "queue suppress remove",
        "account address",
        "queue:suppress_remove",
        "Let an account send to an address again.",
        (2, 2),
    ),
    Command(
        "queue suppress lookup",
        "[filter flags] address",
        "queue:suppress_lookup",
        "List the entries that keep messages from an address.",
        (1, 1),
        (Flag("account", TEXT, "Only those of this account."), _JSON),
    ),
    Command(
        "queue webhook list",
        "[filter flags] [sort flags]",
        "queue:webhook_list",
        """List webhook calls that are to be made.

There is a line for each, with its id, times, number of attempts, account, event, the id of the
message in the queue, URL and the last result.""",
        flags=(
            *_HOOK_FILTER,
            Flag("sort", "nextattempt|submitted", "Order, by default nextattempt."),
            _ASC,
            _JSON,
        ),
    ),
    Command(
        "queue webhook schedule",
        "[filter flags] [-now] duration",
        "queue:webhook_schedule",
        f"""Change the time of the next attempt for webhook calls.

The duration, such as 30m, 1h30m or -2h, is added to the time of the next attempt, or with -now
to the present time. "moxtw queue webhook schedule -now 0s" calls at once. {_ALL_CALLS}""",
        (1, 1),
        (
            *_HOOK_FILTER,
            Flag("now", BOOL, "Count from now, not from the time of the next attempt."),
        ),
    ),
    Command(
        "queue webhook cancel",
        "[filter flags]",
        "queue:webhook_cancel",
        f"""Give webhook calls up.

They are kept among the retired ones, as failed. {_ALL_CALLS}""",
        flags=_HOOK_FILTER,
    ),
    Command(
        "queue webhook print",
        "id",
        "queue:webhook_print",
        "Print a webhook call that is to be made, with its payload and results, as JSON.",
        (1, 1),
    ),
    Command(
        "queue webhook retired list",
        "[filter flags] [sort flags]",
        "queue:webhook_retired_list",
        """List webhook calls that were made, given up or superseded by newer ones.

They are kept for the KeepRetiredWebhookPeriod of their account.""",
        flags=(
            _HOOK_ACCOUNT,
            _HOOK_EVENT,
            _HOOK_IDS,
            Flag("lastactivity", TEXT, f"Only calls of which the last was made then, {_WHEN}"),
            _HOOK_MOST,
            _HOOK_SUBMITTED,
            Flag("sort", "lastactivity|submitted", "Order, by default lastactivity."),
            _ASC,
            _JSON,
        ),
    ),
    Command(
        "queue webhook retired print",
        "id",
        "queue:webhook_retired_print",
        "Print a retired webhook call, with its payload and results, as JSON.",
        (1, 1),
    ),
)
