"""A plot of many small panels, a curve or more in each, drawn with Pillow."""
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 220, 170                       # of a panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 24, 40      # its margins
COLUMNS = 5
LEGEND = 24
LOW, HIGH = 0.5, 1.0                           # of the bit accuracy
COLOURS = ('#d62728', '#1f77b4', '#2ca02c', '#9467bd', '#ff7f0e', '#8c564b')


def plot(panels, labels, accepted):
    """Draws bit accuracy, 0.5 to 1, by strength: a panel per perturbation, a colour per label.

    Args:
        panels: {title: (parameter, names of the strengths from weak to strong, {label: accuracies, one per strength})}.
        labels: the curves' labels, in the order of their colours.
        accepted: an accuracy across which each panel has a dashed line.

    Returns: a Pillow image.
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    canvas = Image.new('RGB', (columns * WIDTH, LEGEND + rows * HEIGHT), 'white')
    pen = ImageDraw.Draw(canvas)
    for number, label in enumerate(labels):
        left = 8 + number * max(columns * WIDTH // len(labels), 120)
        pen.line([(left, 12), (left + 20, 12)], fill=COLOURS[number % len(COLOURS)], width=2)
        pen.text((left + 26, 6), label, fill='black')
    for number, (title, (parameter, strengths, curves)) in enumerate(panels.items()):
        corner = (number % columns * WIDTH, LEGEND + number // columns * HEIGHT)
        _draw_axes(pen, corner, f'{title}: {parameter}' if parameter else title, strengths, accepted)
        for label, accuracies in curves.items():
            points = [place(corner, index, accuracy, len(strengths)) for index, accuracy in enumerate(accuracies)]
            _draw_curve(pen, points, COLOURS[labels.index(label) % len(COLOURS)])
    return canvas


def place(corner, index, accuracy, count):
    """Where in the plot the `index`-th of `count` strengths lies, in pixels (x, y); below 0.5 on the lower edge."""
    share = (min(max(accuracy, LOW), HIGH) - LOW) / (HIGH - LOW)
    step = (WIDTH - LEFT - RIGHT) / max(count - 1, 1)
    x = corner[0] + LEFT + index * step
    y = corner[1] + HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    return round(x), round(y)


def _draw_axes(pen, corner, title, strengths, accepted):
    pen.text((corner[0] + LEFT, corner[1] + 6), title, fill='black')
    right = corner[0] + WIDTH - RIGHT
    for tenth in range(5, 11):
        left, y = place(corner, 0, tenth / 10, len(strengths))
        pen.line([(left, y), (right, y)], fill='#dddddd')
        pen.text((left - 24, y - 6), f'{tenth / 10:.1f}', fill='black')
    left, y = place(corner, 0, accepted, len(strengths))
    for x in range(left, right, 8):
        pen.line([(x, y), (min(x + 4, right), y)], fill='black')
    for index, strength in enumerate(strengths):
        x, y = place(corner, index, LOW, len(strengths))
        pen.line([(x, y), (x, y + 3)], fill='black')
        width = pen.textlength(strength)
        pen.text((min(x - width // 2, right + RIGHT - width), y + 5 + 10 * (index % 2)), strength, fill='black')


def _draw_curve(pen, points, colour):
    pen.line(points, fill=colour, width=2)
    for x, y in points:
        pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
