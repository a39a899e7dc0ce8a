# Usage: retry.py URL KEY BODY
import random, sys, time, urllib.error, urllib.request

AGAIN = {409, 425, 429, 500, 502, 503, 504}


def post(url, key, body, tries=6):
    """One key for the operation, the same on each try."""
    for n in range(tries):
        request = urllib.request.Request(url, body.encode(), {
            "Idempotency-Key": key, "Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            if error.code not in AGAIN or n == tries - 1:
                return error.code, error.read().decode()
        except OSError:  # no answer: it may have been executed, which the key takes care of
            if n == tries - 1:
                raise
        time.sleep(random.uniform(0.5, 1) * 0.2 * 2**n)


if __name__ == "__main__":
    print(*post(*sys.argv[1:4]))
