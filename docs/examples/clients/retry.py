# Usage: retry.py URL KEY BODY
import http.client, json, random, sys, time, urllib.error, urllib.request

AGAIN = {408, 425, 429, 502, 503, 504}


def may_retry(status, headers, text):
    if headers.get("Idempotent-Replayed") == "true":
        return False  # a stored answer is the outcome, whatever its status
    if headers.get_content_type() == "application/problem+json":
        try:
            return json.loads(text)["retryable"] is True  # the proxy knows
        except (ValueError, KeyError, TypeError):
            pass  # a problem of the backend's
    return status in AGAIN


def once(url, key, body):
    request = urllib.request.Request(url, body.encode(), {
        "Idempotency-Key": key, "Content-Type": "application/json"})
    try:
        response = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response.status, response.headers, response.read().decode()


def post(url, key, body, tries=6):
    """One key for the operation, the same on each try."""
    for n in range(tries):
        wait = random.uniform(0.5, 1) * 0.2 * 2**n
        try:
            status, headers, text = once(url, key, body)
            if n == tries - 1 or not may_retry(status, headers, text):
                return status, text
            after = headers.get("Retry-After", "")
            wait = max(wait, int(after)) if after.isdigit() else wait
        except (OSError, http.client.HTTPException):
            if n == tries - 1:  # no answer: it may have been executed, which the key takes care of
                raise
        time.sleep(wait)


if __name__ == "__main__":
    print(*post(*sys.argv[1:4]))
