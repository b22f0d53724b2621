"""Draws the report of bench/e2e/run as an SVG: a group of bars for each line of the table, the longest of each group as
wide as the picture allows, with a mark at what is wanted."""
from xml.sax.saxutils import escape

WIDTH, LABEL, BAR, GAP, HEAD = 900, 190, 15, 16, 64
COLOURS = {"oxmem": "#1f6fb2", "peer": "#b9c4cf"}


def text(x, y, content, size=12, anchor="start", weight="normal", colour="#222"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{escape(content)}</text>')


def bar(x, y, width, colour, title):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{BAR - 3}" rx="2" fill="{colour}">'
            f'<title>{escape(title)}</title></rect>')


def group(result, y):
    """The parts of one line's picture, and where the next may begin."""
    parts = []
    verdict, colour = "not measured", "#777"
    if result["ratio"] is not None:
        verdict = f"{result['ratio_text']}, wanted {result['wanted']}"
        colour = "#2b7d3c" if result["reached"] else "#b3261e"
    parts.append(text(10, y + 12, result["name"], 13, weight="bold"))
    parts.append(text(WIDTH - 10, y + 12, verdict, 12, "end", colour=colour))
    y += 20
    bars = [("oxmem", result["value"])] if result["value"] is not None else []
    bars += list(result["peers"].items())
    limit = result.get("limit")
    room = WIDTH - LABEL - 110
    longest = max([value for _, value in bars] + ([limit] if limit is not None else []), default=1) or 1
    top = y
    for name, value in bars:
        width = room * value / longest
        figure = f"{value:.4g} {result['unit']}"
        parts.append(text(LABEL - 8, y + BAR - 5, name, 12, "end"))
        parts.append(bar(LABEL, y, width, COLOURS["oxmem" if name == "oxmem" else "peer"], f"{name}: {figure}"))
        parts.append(text(LABEL + width + 6, y + BAR - 5, figure, 11, colour="#444"))
        y += BAR
    if limit is not None and bars:
        x = LABEL + room * limit / longest
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 3}" y2="{y}" stroke="#b3261e" stroke-width="1.5" '
                     f'stroke-dasharray="4 2"><title>wanted: {limit:.4g} {escape(result["unit"])}</title></line>')
    return parts, y + GAP


def rounds(report):
    """How many there were: "5", or "3 to 5" if the report was made in pieces."""
    counts = [len(values) for result in report["lines"] for values in result["rounds"].values()] or [0]
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def draw(report):
    machine = report["machine"]
    parts = [text(10, 24, "oxmem mounts beside their peers", 18, weight="bold"),
             text(10, 44, f"{report['date']}, {machine['processors']} processors ({machine['model']}), Linux "
                          f"{machine['kernel']}; medians of {rounds(report)} rounds of {report['seconds']} s; "
                          "dashed: wanted of oxmem", 11, colour="#555")]
    y = HEAD
    for result in report["lines"]:
        more, y = group(result, y)
        parts += more
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
            'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n'
            + "\n".join(parts) + "\n</svg>\n")
