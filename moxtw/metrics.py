"""Prometheus metrics, all in one place so that names stay consistent.

Each has the prefix ``mox_``, the names that dashboards and alerts for the original use. Only
the ``sherpa_`` metrics of the JSON APIs have none.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

REGISTRY: Final = CollectorRegistry()

# Memory, time and open files of the process, with the usual names.
ProcessCollector(registry=REGISTRY)

# A time of creation beside each counter would double what is scraped, for names nobody expects.
disable_created_metrics()

_FAST: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 60, 120)
_SLOW: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 60, 120)


def _counter(name: str, doc: str, *labels: str) -> Counter:
    return Counter(name, doc, labels, registry=REGISTRY)


def _gauge(name: str, doc: str, *labels: str) -> Gauge:
    return Gauge(name, doc, labels, registry=REGISTRY)


def _histogram(
    name: str, doc: str, *labels: str, buckets: tuple[float, ...] = _FAST
) -> Histogram:
    return Histogram(name, doc, labels, buckets=buckets, registry=REGISTRY)


def exposition() -> bytes:
    """All metrics in Prometheus text form (version 0.0.4)."""
    return generate_latest(REGISTRY)


# General.
panic_total = _counter("mox_panic_total", "Unforeseen exceptions.", "pkg")
logging_level_info_total = _counter("mox_logging_level_info_total", "Log lines at level info.")
logging_level_warn_total = _counter("mox_logging_level_warn_total", "Log lines at level warn.")
logging_level_error_total = _counter("mox_logging_level_error_total", "Log lines at level error.")
connections_count = _gauge(
    "mox_connections_count", "Open connections.", "protocol", "listener"
)
httpclient_request_duration_seconds = _histogram(
    "mox_httpclient_request_duration_seconds",
    "HTTP requests made.",
    "pkg",
    "method",
    "code",
    "result",
    buckets=_SLOW,
)

# Authentication.
authentication_total = _counter(
    "mox_authentication_total", "Login attempts.", "kind", "variant", "result"
)
authentication_ratelimited_total = _counter(
    "mox_authentication_ratelimited_total", "Login attempts refused by rate limits.", "kind"
)

# SMTP server.
smtpserver_connection_total = _counter(
    "mox_smtpserver_connection_total", "Incoming SMTP connections.", "kind"
)
smtpserver_forward_total = _counter(
    "mox_smtpserver_forward_total",
    "Accepted messages for addresses that pass them on (ForwardTo).",
    "result",
)
smtpserver_early_talkers_total = _counter(
    "mox_smtpserver_early_talkers_total",
    "Incoming SMTP connections whose client did not wait for the greeting.",
)
smtpserver_command_duration_seconds = _histogram(
    "mox_smtpserver_command_duration_seconds",
    "SMTP commands.",
    "kind",
    "cmd",
    "code",
    "ecode",
)
smtpserver_delivery_total = _counter(
    "mox_smtpserver_delivery_total", "Incoming deliveries.", "result", "reason"
)
smtpserver_submission_total = _counter(
    "mox_smtpserver_submission_total", "Submitted messages.", "result"
)
smtpserver_errors_total = _counter(
    "mox_smtpserver_errors_total", "Errors in the SMTP server.", "error"
)
smtpserver_delivery_starttls_total = _counter(
    "mox_smtpserver_delivery_starttls_total", "STARTTLS commands on delivery listeners."
)
smtpserver_delivery_starttls_errors_total = _counter(
    "mox_smtpserver_delivery_starttls_errors_total",
    "Failed TLS handshakes on delivery listeners.",
    "reason",
)

# SMTP client.
smtpclient_command_duration_seconds = _histogram(
    "mox_smtpclient_command_duration_seconds",
    "SMTP commands sent.",
    "cmd",
    "code",
    "secode",
    buckets=_SLOW,
)
smtpclient_tlsrequiredno_ignored_total = _counter(
    "mox_smtpclient_tlsrequiredno_ignored_total",
    "TLS failures ignored because of TLS-Required: No.",
    "ignored",
)

# Queue.
queue_connection_total = _counter(
    "mox_queue_connection_total", "Connections made for delivery.", "result"
)
queue_delivery_duration_seconds = _histogram(
    "mox_queue_delivery_duration_seconds",
    "Delivery attempts.",
    "attempt",
    "transport",
    "tlsmode",
    "result",
    buckets=_SLOW,
)
queue_hold = _gauge("mox_queue_hold", "Messages on hold.")
queue_destinations_total = _counter(
    "mox_queue_destinations_total", "Destinations of direct deliveries."
)
queue_destinations_authentic_total = _counter(
    "mox_queue_destinations_authentic_total", "Destinations found with DNSSEC."
)
queue_destination_dane_required_total = _counter(
    "mox_queue_destination_dane_required_total", "Destinations with DANE required."
)
queue_destination_dane_gathertlsa_errors_total = _counter(
    "mox_queue_destination_dane_gathertlsa_errors_total", "Failed TLSA lookups."
)
queue_destination_dane_starttlsunverified_total = _counter(
    "mox_queue_destination_dane_starttlsunverified_total", "Only unusable TLSA records."
)
dane_verify_total = _counter("mox_dane_verify_total", "Verifications by DANE.")
dane_verify_errors_total = _counter(
    "mox_dane_verify_errors_total", "Failed verifications by DANE."
)
mtasts_get_duration_seconds = _histogram(
    "mox_mtasts_get_duration_seconds", "Fetches of MTA-STS policies.", "result"
)
mtastsdb_get_total = _counter(
    "mox_mtastsdb_get_total", "MTA-STS policies looked for in the database.", "result"
)
tlsrpt_lookup_duration_seconds = _histogram(
    "mox_tlsrpt_lookup_duration_seconds", "Lookups of TLSRPT records.", "result"
)
updates_lookup_duration_seconds = _histogram(
    "mox_updates_lookup_duration_seconds", "Lookups of the latest version.", "result"
)
updates_fetchchangelog_duration_seconds = _histogram(
    "mox_updates_fetchchangelog_duration_seconds", "Requests of changelogs.", "result"
)
queue_plaintext_fallback_total = _counter(
    "mox_queue_plaintext_fallback_total", "Fallbacks to plain text after TLS errors."
)
queue_requiretls_unsupported_total = _counter(
    "mox_queue_requiretls_unsupported_total", "REQUIRETLS not possible.", "reason"
)
queue_tlsrequiredno_ignored_total = _counter(
    "mox_queue_tlsrequiredno_ignored_total", "Policies ignored by TLS-Required: No.", "ignored"
)
queue_dmarcreport_failure_total = _counter(
    "mox_queue_dmarcreport_failure_total", "DMARC reports that could not be delivered."
)

# IMAP.
imap_connection_total = _counter("mox_imap_connection_total", "IMAP connections.", "service")
imap_command_duration_seconds = _histogram(
    "mox_imap_command_duration_seconds", "IMAP commands.", "cmd", "result"
)

# Checks.
dns_lookup_duration_seconds = _histogram(
    "mox_dns_lookup_duration_seconds", "DNS lookups.", "pkg", "type", "result"
)
spf_verify_duration_seconds = _histogram(
    "mox_spf_verify_duration_seconds", "SPF checks, lookups included.", "status"
)
subjectpass_generate_total = _counter(
    "mox_subjectpass_generate_total", "Tokens for subjects, given to refused senders."
)
subjectpass_verify_total = _counter(
    "mox_subjectpass_verify_total", "Looks for tokens in subjects.", "result"
)
dnsbl_ips_success = _gauge(
    "mox_dnsbl_ips_success",
    "Whether our addresses are not in block lists: 1 not, 0 listed or not known,"
    " -1 if our addresses are not known.",
    "zone",
    "ip",
)
dnsbl_lookup_duration_seconds = _histogram(
    "mox_dnsbl_lookup_duration_seconds", "Lookups in DNS block lists.", "zone", "status"
)
dkim_sign_total = _counter("mox_dkim_sign_total", "DKIM signatures made.", "key")
dkim_verify_duration_seconds = _histogram(
    "mox_dkim_verify_duration_seconds",
    "Verifications of DKIM signatures.",
    "algorithm",
    "status",
)
dmarc_verify_duration_seconds = _histogram(
    "mox_dmarc_verify_duration_seconds",
    "Evaluations of DMARC policies, with their lookups.",
    "status",
    "reject",
    "use",
)
dmarcdb_policy_evaluated_total = _counter(
    "mox_dmarcdb_policy_evaluated_total",
    "Messages in DMARC reports received.",
    "domain",
    "disposition",
    "dkim",
    "spf",
)
dmarcdb_dkim_result_total = _counter(
    "mox_dmarcdb_dkim_result_total", "DKIM results in DMARC reports received.", "result"
)
dmarcdb_spf_result_total = _counter(
    "mox_dmarcdb_spf_result_total", "SPF results in DMARC reports received.", "result"
)
dmarcdb_report_queued_total = _counter(
    "mox_dmarcdb_report_queued_total", "DMARC reports queued."
)
dmarcdb_report_error_total = _counter(
    "mox_dmarcdb_report_error_total", "DMARC reports that could not be made or queued."
)
tlsrptdb_session_total = _counter(
    "mox_tlsrptdb_session_total", "TLS sessions in reports received, by result.", "type"
)
tlsrptsend_report_queued_total = _counter(
    "mox_tlsrptsend_report_queued_total", "TLS reports queued."
)
tlsrptsend_report_error_total = _counter(
    "mox_tlsrptsend_report_error_total", "TLS reports that could not be made or queued."
)
iprev_lookup_total = _counter(
    "mox_iprev_lookup_total", "Checks of names of clients' addresses.", "status"
)

# Junk filter.
junk_classify_duration_seconds = _histogram(
    "mox_junk_classify_duration_seconds", "Messages scored by the junk filter."
)
junk_trained_total = _counter(
    "mox_junk_trained_total", "Messages that the junk filter learned (train) or forgot.", "action"
)

# Web.
httpserver_request_duration_seconds = _histogram(
    "mox_httpserver_request_duration_seconds",
    "HTTP requests, until the header was written.",
    "handler",
    "proto",
    "method",
    "code",
)
httpserver_response_duration_seconds = _histogram(
    "mox_httpserver_response_duration_seconds",
    "HTTP requests, until the response was written.",
    "handler",
    "proto",
    "method",
    "code",
)
sherpa_requests_total = _counter(
    "sherpa_requests_total", "JSON API calls.", "api", "function"
)
sherpa_errors_total = _counter(
    "sherpa_errors_total", "JSON API calls that failed.", "api", "function", "code"
)
sherpa_requests_duration_seconds = _histogram(
    "sherpa_requests_duration_seconds", "JSON API calls.", "api", "function"
)
sherpa_protocol_errors_total = _counter(
    "sherpa_protocol_errors_total", "Malformed JSON API calls.", "api"
)
sherpa_bad_function_total = _counter(
    "sherpa_bad_function_total", "Calls of unknown JSON API functions.", "api"
)
sherpa_json_requests_total = _counter(
    "sherpa_json_requests_total", "Fetches of API descriptions.", "api"
)
sherpa_javascript_request_total = _counter(
    "sherpa_javascript_request_total", "Fetches of JavaScript clients.", "api"
)
webhook_request_duration_seconds = _histogram(
    "mox_webhook_request_duration_seconds", "Webhook calls made.", buckets=_SLOW
)
webhook_results_total = _counter(
    "mox_webhook_results_total", "Webhook calls by status, or error.", "code"
)
webapi_submission_total = _counter(
    "mox_webapi_submission_total", "Messages sent with the HTTP API.", "result"
)
webapi_errors_total = _counter(
    "mox_webapi_errors_total", "Failures inside the HTTP API.", "error"
)
webapi_results_total = _counter(
    "mox_webapi_results_total", "HTTP API calls by result.", "method", "result"
)
webapi_duration_seconds = _histogram(
    "mox_webapi_duration_seconds", "HTTP API calls.", "method"
)
