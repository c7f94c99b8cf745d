"""What holds for every test."""

import signal

# A session that was started in the background ignores these, and so would every program that the
# tests start and interrupt: programs inherit what is ignored.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
