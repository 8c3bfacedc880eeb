"""The twistd plugin: ``twistd moxtw -c mox.conf``."""

from twisted.application.service import ServiceMaker

serviceMaker = ServiceMaker(
    "moxtw",
    "moxtw.service",
    "A complete mail server: SMTP, IMAP, queue, webmail, administration.",
    "moxtw",
)
