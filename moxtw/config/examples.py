"""Fragments of configuration for common wishes, to be copied and adapted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOX_CONF: Final = "mox.conf"
DOMAINS_CONF: Final = "domains.conf"


@dataclass(frozen=True, slots=True)
class Example:
    """A fragment: `text` stands at the top level of `file`."""

    name: str
    file: str
    title: str
    text: str

    def printed(self) -> str:
        """The fragment with its explanation, as for the command line."""
        lines = [f"# {line}" for line in self.title.splitlines()]
        return "\n".join([*lines, "#", f"# Part of {self.file}:", "", self.text])


_ALL: Final = (
    Example(
        "alias",
        DOMAINS_CONF,
        "An alias, or small mailing list: mail to team@example.org goes to all members.\n"
        "Anybody may write to it; members see each other and may send as team@example.org.",
        """\
Domains:
	example.org:
		Aliases:
			team:
				Addresses:
					- alice@example.org
					- bob@example.org
				PostPublic: true
				ListMembers: true
				AllowMsgFrom: true
""",
    ),
    Example(
        "catchall",
        DOMAINS_CONF,
        "All addresses of a domain that nobody has, except one that is refused. With the\n"
        "separator, mail to me+anything@example.org goes to me@example.org in any case.",
        """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org: nil
			@example.org: nil
			spammed@example.org:
				SMTPError: 550 no longer in use
""",
    ),
    Example(
        "rulesets",
        DOMAINS_CONF,
        "Rules for the messages to an address. A mailing list with a mailbox of its own, whose\n"
        "messages are not looked at for junk; mail that another provider forwards; and\n"
        "everything with a certain subject.",
        """\
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org:
				Rulesets:
					-
						SMTPMailFromRegexp: ^list-name-bounces@lists\\.example\\.com$
						VerifiedDomain: lists.example.com
						ListAllowDomain: lists.example.com
						Mailbox: Lists/name
					-
						SMTPMailFromRegexp: ^forwarder@example\\.net$
						VerifiedDomain: example.net
						IsForward: true
						AcceptRejectsToMailbox: Rejects
						Mailbox: Inbox
					-
						HeadersRegexp:
							^subject$: ^\\[invoice\\]
						Mailbox: Invoices
""",
    ),
    Example(
        "forward",
        DOMAINS_CONF,
        "An address that passes its mail on to another provider, and keeps it. Tell that\n"
        "provider, if it can be told, to trust what this server says of the message (ARC).",
        """\
Accounts:
	me:
		Domain: example.org
		Destinations:
			me@example.org:
				ForwardTo:
					- me@example.net
""",
    ),
    Example(
        "quota",
        DOMAINS_CONF,
        "Limits for an account: 1 GiB of messages, 200 recipients a day, 20 of them new.\n"
        "A limit for all accounts is QuotaMessageSize in mox.conf.",
        """\
Accounts:
	me:
		Domain: example.org
		QuotaMessageSize: 1073741824
		MaxOutgoingMessagesPerDay: 200
		MaxFirstTimeRecipientsPerDay: 20
""",
    ),
    Example(
        "webhook",
        DOMAINS_CONF,
        "Calls of a program of one's own for messages that arrive, and for what became of\n"
        "messages that were sent with login me@example.org.",
        """\
Domains:
	example.org:
		LocalpartCatchallSeparator: +
Accounts:
	me:
		OutgoingWebhook:
			URL: https://example.org/hooks/outgoing
			Authorization: Basic dXNlcjpwYXNzd29yZA==
			Events:
				- delivered
				- failed
				- suppressed
		IncomingWebhook:
			URL: https://example.org/hooks/incoming
			Authorization: Basic dXNlcjpwYXNzd29yZA==
		FromIDLoginAddresses:
			- me@example.org
		KeepRetiredMessagePeriod: 720h0m0s
		KeepRetiredWebhookPeriod: 720h0m0s
		Domain: example.org
		Destinations:
			me@example.org: nil
""",
    ),
    Example(
        "transports",
        MOX_CONF,
        "Ways to send other than directly, for use in routes (see the example routes) and in\n"
        "the queue.",
        """\
Transports:
	smarthost:
		Submissions:
			Host: smtp.example.com
			Auth:
				Username: user@example.com
				Password: secret
				Mechanisms:
					- SCRAM-SHA-256-PLUS
					- SCRAM-SHA-256
					- PLAIN
	smarthost-starttls:
		Submission:
			Host: smtp.example.com
			Port: 587
			Auth:
				Username: user@example.com
				Password: secret
	relay:
		SMTP:
			Host: relay.example.com
	socks:
		Socks:
			Address: localhost:1080
			RemoteIPs:
				- 198.51.100.7
			RemoteHostname: out.example.org
	ipv4:
		Direct:
			DisableIPv6: true
	blocked:
		Fail:
			SMTPCode: 554
			SMTPMessage: mail to this domain is not sent
""",
    ),
    Example(
        "routes",
        DOMAINS_CONF,
        "Which messages take which transport (see the example transports): mail to a domain is\n"
        "refused; mail of a domain goes through a smarthost; all other mail is sent directly,\n"
        "but through the smarthost after three attempts that failed.",
        """\
Domains:
	example.org:
		Routes:
			-
				ToDomain:
					- .example.com
				Transport: blocked
			-
				FromDomain:
					- example.org
				Transport: smarthost
Routes:
	-
		MinimumAttempts: 3
		Transport: smarthost
""",
    ),
    Example(
        "webhandlers",
        DOMAINS_CONF,
        "A web server with files, redirects, an application behind it and webmail. It needs a\n"
        "listener with WebserverHTTP and WebserverHTTPS.",
        """\
WebDomainRedirects:
	www.example.org: example.org
WebHandlers:
	-
		LogName: application
		Domain: example.org
		PathRegexp: ^/app/
		WebForward:
			StripPath: true
			URL: http://127.0.0.1:8888
	-
		LogName: moved
		Domain: example.org
		PathRegexp: ^/old/
		WebRedirect:
			OrigPathRegexp: ^/old/(.*)$
			ReplacePath: /new/$1
			StatusCode: 307
	-
		LogName: elsewhere
		Domain: example.org
		PathRegexp: ^/shop/
		WebRedirect:
			BaseURL: https://shop.example.org/
	-
		LogName: webmail
		Domain: example.org
		PathRegexp: ^/webmail/
		WebInternal:
			BasePath: /webmail/
			Service: webmail
	-
		LogName: files
		Domain: example.org
		PathRegexp: ^/
		Compress: true
		WebStatic:
			Root: ../web/example.org
			ListFiles: true
			ResponseHeaders:
				Cache-Control: max-age=3600
""",
    ),
    Example(
        "existing-webserver",
        MOX_CONF,
        "Beside a web server that has the ports 80 and 443. It must do TLS, and pass requests on\n"
        "with the headers Host, X-Forwarded-For and X-Forwarded-Proto:\n"
        "  mail.example.org                    to http://127.0.0.1:1080\n"
        "  autoconfig.example.org              to http://127.0.0.1:81\n"
        "  mta-sts.example.org                 to http://127.0.0.1:81\n"
        "Certificates for mail are those that the web server gets; restart after renewals.",
        """\
Listeners:
	internal:
		IPs:
			- 127.0.0.1
			- ::1
		Hostname: localhost
		AccountHTTP:
			Enabled: true
			Port: 1080
			Forwarded: true
		AdminHTTP:
			Enabled: true
			Port: 1080
			Forwarded: true
		WebmailHTTP:
			Enabled: true
			Port: 1080
			Forwarded: true
		WebAPIHTTP:
			Enabled: true
			Port: 1080
			Forwarded: true
		AutoconfigHTTPS:
			Enabled: true
			Port: 81
			NonTLS: true
			Forwarded: true
		MTASTSHTTPS:
			Enabled: true
			Port: 81
			NonTLS: true
			Forwarded: true
	public:
		IPs:
			- 192.0.2.2
			- 2001:db8::2
		TLS:
			KeyCerts:
				-
					CertFile: /etc/ssl/mail.example.org-chain.pem
					KeyFile: /etc/ssl/mail.example.org.key.pem
		SMTP:
			Enabled: true
		Submissions:
			Enabled: true
		IMAPS:
			Enabled: true
""",
    ),
    Example(
        "loadbalancer",
        MOX_CONF,
        "Behind a load balancer that speaks the PROXY protocol. Nothing else must be able to\n"
        "connect to these addresses.",
        """\
ConnectionLimitExemptions:
	- 10.0.0.0/24
Listeners:
	balanced:
		IPs:
			- 10.0.0.2
		Hostname: mail.example.org
		ProxyProtocol: true
		TLS:
			KeyCerts:
				-
					CertFile: mail.example.org-chain.pem
					KeyFile: mail.example.org.key.pem
		SMTP:
			Enabled: true
		Submissions:
			Enabled: true
		IMAPS:
			Enabled: true
""",
    ),
    Example(
        "acme-external-account",
        MOX_CONF,
        "Certificates of a provider that demands an account with it.",
        """\
ACME:
	zerossl:
		DirectoryURL: https://acme.zerossl.com/v2/DV90
		ContactEmail: postmaster@example.org
		IssuerDomainName: sectigo.com
		ExternalAccountBinding:
			KeyID: abcdef
			KeyFile: zerossl-eab.key
""",
    ),
    Example(
        "database",
        MOX_CONF,
        "All data in PostgreSQL instead of a file, and resolvers of one's own.",
        """\
Resolvers:
	- 127.0.0.1:5353
DatabaseURL: postgresql+psycopg://moxtw:secret@localhost/moxtw
""",
    ),
)

EXAMPLES: Final = {example.name: example for example in _ALL}
"""All fragments by name."""
