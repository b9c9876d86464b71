import signal
def test_x():
    print(signal.getsignal(signal.SIGINT))
    assert 0
