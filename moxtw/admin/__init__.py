"""Operations on the whole server: one function per operation, told who calls.

The web, the control socket and the command line call the same functions; they know nothing
of HTTP or of argument lists.
"""
