import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.errors.CorruptRecordException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.DefaultRecord;
import org.apache.kafka.common.record.DefaultRecordBatch;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.MutableRecordBatch;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.ByteBufferOutputStream;
import org.apache.kafka.common.utils.Utils;

/**
 * Kafka's own classes at work on record batches.
 *
 * write DIR   golden files: NAME.batch, NAME.json (what Kafka reads in it), murmur2.json
 * read FILE   prints, as one line of JSON, each field of each batch in the file, decoded by Kafka; fails on a bad CRC
 *
 * Bytes are printed in hex, 64-bit numbers as strings.
 */
public final class KafkaBatches {
    private static final HexFormat HEX = HexFormat.of();
    private static final long PRODUCER_ID = (1L << 62) + 123_456_789_012_345L;
    private static final long BASE_OFFSET = 5_000_000_000L;
    private static final int LEADER_EPOCH = 7;

    private record Line(long timestamp, byte[] key, byte[] value, Header[] headers) { }

    public static void main(String[] args) throws IOException {
        switch (args[0]) {
            case "write" -> write(Path.of(args[1]));
            case "read" -> read(Path.of(args[1]));
            default -> throw new IllegalArgumentException("write DIR | read FILE");
        }
    }

    private static void read(Path file) throws IOException {
        try {
            System.out.println(describeAll(ByteBuffer.wrap(Files.readAllBytes(file))));
        } catch (CorruptRecordException error) {
            // Caught because it has no stack trace, over which Java's source launcher would stumble.
            System.err.println("CorruptRecordException: " + error.getMessage());
            System.exit(1);
        }
    }

    private static void write(Path dir) throws IOException {
        writeGolden(dir, "plain", built(Compression.NONE, TimestampType.CREATE_TIME, shapes()));
        writeGolden(dir, "zstd-streamed", built(Compression.zstd().level(3).build(), TimestampType.CREATE_TIME, accessLines()));
        writeGolden(dir, "zstd-one-frame", oneFrame(accessLines()));
        writeGolden(dir, "log-append-time", built(Compression.NONE, TimestampType.LOG_APPEND_TIME, shapes()));
        writeGolden(dir, "control", MemoryRecords.withEndTransactionMarker(BASE_OFFSET, 1_700_000_000_000L, LEADER_EPOCH, PRODUCER_ID,
            (short) 3, new EndTransactionMarker(ControlRecordType.COMMIT, 11)).buffer());
        Files.writeString(dir.resolve("murmur2.json"), murmur2Vectors() + "\n");
    }

    private static void writeGolden(Path dir, String name, ByteBuffer batch) throws IOException {
        byte[] bytes = new byte[batch.remaining()];
        batch.duplicate().get(bytes);
        Files.write(dir.resolve(name + ".batch"), bytes);
        Files.writeString(dir.resolve(name + ".json"), describeAll(ByteBuffer.wrap(bytes)) + "\n");
    }

    /** What a Java producer makes and a broker stores. */
    private static ByteBuffer built(Compression compression, TimestampType timestampType, List<Line> lines) {
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2, compression,
            timestampType, BASE_OFFSET, 1_700_000_099_999L, PRODUCER_ID, (short) 3, Integer.MAX_VALUE - 2, false, LEADER_EPOCH);
        for (Line line : lines) {

            builder.append(line.timestamp, line.key, line.value, line.headers);
        }
        return builder.build().buffer();
    }

    /** The same by Kafka's record and batch classes, but with one zstd frame that says its content size, as tailrace seals. */
    private static ByteBuffer oneFrame(List<Line> lines) throws IOException {
        ByteBufferOutputStream raw = new ByteBufferOutputStream(1 << 20);
        long base = lines.get(0).timestamp;
        long max = base;
        try (java.io.DataOutputStream out = new java.io.DataOutputStream(raw)) {
            for (int i = 0; i < lines.size(); i++) {
                Line line = lines.get(i);
                max = Math.max(max, line.timestamp);
                DefaultRecord.writeTo(out, i, line.timestamp - base, nullable(line.key), nullable(line.value), line.headers);
            }
        }
        byte[] section = Utils.toArray(raw.buffer().flip());
        byte[] frame = com.github.luben.zstd.Zstd.compress(section, 3);
        int size = DefaultRecordBatch.RECORD_BATCH_OVERHEAD + frame.length;
        ByteBuffer batch = ByteBuffer.allocate(size);
        batch.position(DefaultRecordBatch.RECORD_BATCH_OVERHEAD);
        batch.put(frame);
        batch.position(0);
        DefaultRecordBatch.writeHeader(batch, BASE_OFFSET, lines.size() - 1, size, RecordBatch.MAGIC_VALUE_V2, CompressionType.ZSTD,
            TimestampType.CREATE_TIME, base, max, PRODUCER_ID, (short) 3, 17, false, false, false, LEADER_EPOCH, lines.size());
        return batch.position(0);
    }

    private static ByteBuffer nullable(byte[] bytes) {
        return bytes == null ? null : ByteBuffer.wrap(bytes);
    }

    /** One record for each shape a record can have. */
    private static List<Line> shapes() {
        byte[] big = new byte[300];
        for (int i = 0; i < big.length; i++) big[i] = (byte) i;
        long t = 1_700_000_000_000L;
        return List.of(
            line(t, "host:/var/log/app.log", "a line"),
            line(t + 1, null, "null key"),
            line(t + 2, "", "empty key"),
            line(t + 3, "empty value", ""),
            line(t + 4, "null value", null),
            line(t - 5_000, "earlier than the first", "x"),
            line(t + 400L * 24 * 3600 * 1000, "far in the future", "x"),
            new Line(t, big, big, new Header[] {new RecordHeader("tr", big)}),
            line(t, "k", "v", new RecordHeader("tr.part", new byte[0])),
            line(t, "k", "v", new RecordHeader("null", null), new RecordHeader("same", utf8("1")), new RecordHeader("same", utf8("2"))),
            line(t, "k", "v", new RecordHeader("gr\u00fc\u00dfe", utf8("\u20ac"))),
            new Line(t, utf8("k"), new byte[] {0, (byte) 0xff, (byte) 0xfe, 13, 10, 0}, new Header[0]));
    }

    private static List<Line> accessLines() {
        List<Line> lines = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            String text = "192.0.2." + i % 251 + " - - [10/Oct/2023:13:55:" + i % 60 + " +0000] \"GET /item/" + i * 7919 % 1000 + " HTTP/1.1\" 200 " + i * 31;
            Header[] headers = i == 0 ? new Header[] {new RecordHeader("tr", utf8("not a source header"))} : new Header[0];
            lines.add(new Line(1_700_000_000_000L + i / 10, utf8("web-1:/var/log/access.log"), utf8(text), headers));
        }
        return lines;
    }

    private static Line line(long timestamp, String key, String value, Header... headers) {
        return new Line(timestamp, utf8(key), utf8(value), headers);
    }

    private static byte[] utf8(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    private static String describeAll(ByteBuffer buffer) {
        List<String> batches = new ArrayList<>();
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(buffer).batches()) batches.add(describe((DefaultRecordBatch) batch));
        return "[" + String.join(",\n", batches) + "]";
    }

    private static String describe(DefaultRecordBatch batch) {
        batch.ensureValid();
        List<String> records = new ArrayList<>();
        for (Record record : batch) {
            record.ensureValid();
            records.add(describe(record));
        }
        return "{\"baseOffset\":\"" + batch.baseOffset() + "\",\"sizeBytes\":" + batch.sizeInBytes()
            + ",\"leaderEpoch\":" + batch.partitionLeaderEpoch() + ",\"magic\":" + batch.magic()
            + ",\"crc\":" + batch.checksum() + ",\"codec\":" + batch.compressionType().id
            + ",\"isLogAppendTime\":" + (batch.timestampType() == TimestampType.LOG_APPEND_TIME)
            + ",\"isTransactional\":" + batch.isTransactional() + ",\"isControl\":" + batch.isControlBatch()
            + ",\"lastOffset\":\"" + batch.lastOffset() + "\",\"baseTimestamp\":\"" + batch.baseTimestamp()
            + "\",\"maxTimestamp\":\"" + batch.maxTimestamp() + "\",\"producerId\":\"" + batch.producerId()
            + "\",\"producerEpoch\":" + batch.producerEpoch() + ",\"baseSequence\":" + batch.baseSequence()
            + ",\"recordCount\":" + batch.countOrNull() + ",\"records\":[\n" + String.join(",\n", records) + "]}";
    }

    private static String describe(Record record) {
        List<String> headers = new ArrayList<>();
        for (Header header : record.headers()) headers.add("[" + hex(utf8(header.key())) + "," + hex(header.value()) + "]");
        return "{\"offset\":\"" + record.offset() + "\",\"timestamp\":\"" + record.timestamp() + "\",\"sequence\":" + record.sequence()
            + ",\"key\":" + hex(record.hasKey() ? Utils.toArray(record.key()) : null)
            + ",\"value\":" + hex(record.hasValue() ? Utils.toArray(record.value()) : null)
            + ",\"headers\":[" + String.join(",", headers) + "]}";
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "null" : "\"" + HEX.formatHex(bytes) + "\"";
    }

    /** Kafka's key hash and the partition that its producer chooses, for keys of every length mod 4 and every sign. */
    private static String murmur2Vectors() {
        List<String> vectors = new ArrayList<>();
        for (String key : List.of("", "a", "ab", "abc", "abcd", "web-1:/var/log/access.log", "web-1:/var/log/nginx/error.log",
            "db.example.org:/var/log/postgresql/postgresql-17-main.log", "h\u00f6st:/var/log/\u65e5\u672c\u8a9e.log")) vectors.add(vector(utf8(key)));
        byte[] bytes = new byte[64];
        int state = 1;
        for (int length = 0; length <= bytes.length; length++) {
            for (int i = 0; i < length; i++) {
                state = state * 1_103_515_245 + 12_345;
                bytes[i] = (byte) (state >>> 16);
            }
            vectors.add(vector(java.util.Arrays.copyOf(bytes, length)));
        }
        return "[\n" + String.join(",\n", vectors) + "]";
    }

    private static String vector(byte[] key) {
        return "{\"key\":" + hex(key) + ",\"murmur2\":" + Utils.murmur2(key) + ",\"of4\":" + BuiltInPartitioner.partitionForKey(key, 4)
            + ",\"of7\":" + BuiltInPartitioner.partitionForKey(key, 7) + "}";
    }
}
