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
)
