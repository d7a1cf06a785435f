import java.util.concurrent.ExecutionException;

/** Collects what passed and failed; the harness reads the lines it prints. */
final class Report {
    /** One check: it passes unless it throws. */
    interface Check {
        void run() throws Exception;
    }

    private int failed;

    /** Runs {@code check} and prints one line: {@code PASS name} or {@code FAIL name: reason}. */
    void check(String name, Check check) {
        try {
            check.run();
            System.out.println("PASS " + name);
        } catch (Throwable error) {
            failed++;
            System.out.println("FAIL " + name + ": " + oneLine(cause(error)));
            error.printStackTrace();
        }
    }

    /** Runs {@code check} and passes only when it fails with exactly {@code expected}. */
    void refused(String name, Class<? extends Throwable> expected, Check check) {
        check(name, () -> {
            try {
                check.run();
            } catch (Throwable error) {
                Throwable cause = cause(error);
                if (cause.getClass() != expected) {
                    throw new AssertionError("wanted " + expected.getSimpleName() + ", got " + cause, error);
                }
                return;
            }
            throw new AssertionError("wanted " + expected.getSimpleName() + ", but it succeeded");
        });
    }

    /** Ends the process: 0 when every check passed. */
    void exit() {
        System.exit(failed == 0 ? 0 : 1);
    }

    static void same(String what, Object wanted, Object got) {
        if (!java.util.Objects.equals(wanted, got)) {
            throw new AssertionError(what + ": wanted " + wanted + ", got " + got);
        }
    }

    private static Throwable cause(Throwable error) {
        Throwable at = error;
        while (at instanceof ExecutionException && at.getCause() != null) {
            at = at.getCause();
        }
        // A producer that lost its first request reports a KafkaException around the real cause.
        if (at.getClass() == org.apache.kafka.common.KafkaException.class && at.getCause() != null) {
            at = at.getCause();
        }
        return at;
    }

    private static String oneLine(Throwable error) {
        return String.valueOf(error).replace('\n', ' ').replace('\r', ' ');
    }
}
