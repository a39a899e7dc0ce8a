// Usage: java Retry.java URL KEY BODY (Java 11 or later, nothing else)
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Set;
import java.util.regex.Pattern;

public class Retry {
    static final Set<Integer> AGAIN = Set.of(408, 425, 429, 502, 503, 504);
    static final Pattern RETRYABLE = Pattern.compile("\"retryable\"\\s*:\\s*(true|false)");

    static boolean mayRetry(HttpResponse<String> response) {
        if (response.headers().firstValue("Idempotent-Replayed").orElse("").equals("true")) {
            return false; // a stored answer is the outcome, whatever its status
        }
        if (response.headers().firstValue("Content-Type").orElse("").startsWith("application/problem+json")) {
            var problem = RETRYABLE.matcher(response.body());
            if (problem.find()) {
                return problem.group(1).equals("true"); // the proxy knows
            }
        }
        return AGAIN.contains(response.statusCode());
    }

    static long retryAfterMillis(HttpResponse<String> response) {
        try {
            return 1000 * Long.parseLong(response.headers().firstValue("Retry-After").orElse("0"));
        } catch (NumberFormatException date) {
            return 0;
        }
    }

    /** One key for the operation, the same on each try. */
    static HttpResponse<String> post(URI uri, String key, String body, int tries) throws IOException, InterruptedException {
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var request = HttpRequest.newBuilder(uri).timeout(Duration.ofSeconds(30))
            .header("Idempotency-Key", key).header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body)).build();
        for (int n = 0; ; n++) {
            long wait = (long) ((0.5 + Math.random() / 2) * 200 * (1 << n));
            try {
                var response = client.send(request, HttpResponse.BodyHandlers.ofString());
                if (n == tries - 1 || !mayRetry(response)) {
                    return response;
                }
                wait = Math.max(wait, retryAfterMillis(response));
            } catch (IOException noAnswer) { // it may have been executed, which the key takes care of
                if (n == tries - 1) {
                    throw noAnswer;
                }
            }
            Thread.sleep(wait);
        }
    }

    public static void main(String[] args) throws Exception {
        var response = post(URI.create(args[0]), args[1], args[2], 6);
        System.out.println(response.statusCode() + " " + response.body());
    }
}
