import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.BaseTable;
import org.apache.iceberg.MetadataCheck;
import org.apache.iceberg.Schema;
import org.apache.iceberg.StaticTableOperations;
import org.apache.iceberg.data.IcebergGenerics;
import org.apache.iceberg.data.Record;
import org.apache.iceberg.hadoop.HadoopFileIO;
import org.apache.iceberg.util.ByteBuffers;

/**
 * Reads and checks Iceberg tables by Iceberg's own Java library, as long as questions come.
 *
 * <pre>
 * {"do": "rows", "metadata": LOCATION, "columns": [..]}   {"types": [..], "rows": [[..], ..]}
 * {"do": "check", "metadata": LOCATION}                   {"problems": [..], "counts": {..}}
 * </pre>
 *
 * Rows are those of the current snapshot, or of the one whose id is "snapshot".
 *
 * One line a question, one line an answer; an answer of a question that failed has "error".
 */
public final class TableServer {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HadoopFileIO IO = new HadoopFileIO(new Configuration());

    private TableServer() {}

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ObjectNode answer;
            try {
                answer = answer(JSON.readTree(line));
            } catch (Throwable error) {
                answer = JSON.createObjectNode().put("error", withCauses(error));
            }
            out.println(JSON.writeValueAsString(answer));
        }
    }

    private static ObjectNode answer(JsonNode question) throws Exception {
        String location = question.get("metadata").asText();
        BaseTable table = new BaseTable(new StaticTableOperations(location, IO), location);
        if (question.get("do").asText().equals("check")) {
            MetadataCheck check = new MetadataCheck(table);
            check.run();
            ObjectNode answer = JSON.createObjectNode();
            answer.set("problems", JSON.valueToTree(check.problems()));
            answer.set("counts", JSON.valueToTree(check.counts()));
            return answer;
        }
        List<String> columns = new ArrayList<>();
        question.get("columns").forEach(column -> columns.add(column.asText()));
        return rows(table, columns, question.get("snapshot"));
    }

    private static ObjectNode rows(BaseTable table, List<String> columns, JsonNode snapshot)
            throws Exception {
        Schema schema = table.schema().select(columns);
        ObjectNode answer = JSON.createObjectNode();
        ArrayNode types = answer.putArray("types");
        for (String column : columns) {
            types.add(schema.findType(column).toString());
        }
        ArrayNode rows = answer.putArray("rows");
        var scan = IcebergGenerics.read(table).select(columns);
        if (snapshot != null) {
            scan.useSnapshot(snapshot.asLong());
        }
        try (var records = scan.build()) {
            for (Record record : records) {
                ArrayNode row = rows.addArray();
                columns.forEach(column -> row.add(value(record.getField(column))));
            }
        }
        return answer;
    }

    /** Numbers and booleans as such, anything else as text; bytes in hexadecimal digits. */
    private static JsonNode value(Object value) {
        if (value == null || value instanceof Boolean || value instanceof Integer
                || value instanceof Long) {
            return JSON.valueToTree(value);
        }
        if (value instanceof BigDecimal number) {
            return JSON.getNodeFactory().textNode(number.toPlainString());
        }
        if (value instanceof ByteBuffer bytes) {
            value = new java.math.BigInteger(1, ByteBuffers.toByteArray(bytes)).toString(16);
        }
        return JSON.getNodeFactory().textNode(value.toString());
    }

    private static String withCauses(Throwable error) {
        StringBuilder text = new StringBuilder(error.toString());
        for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
            text.append("; caused by ").append(cause);
        }
        return text.append(" at ").append(error.getStackTrace()[0]).toString();
    }
}
