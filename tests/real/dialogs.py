"""Hand-written clips in the public format: an assistant talks to someone at work, in plain English.

The real text model has read a lot of this language, so whatever spoils it shows in its first loss.
"""

from pathlib import Path

from dst_dist.data.frames import write_frames
from tests.data.handmade import grey, jpeg, write_prospect

PROMPT = "You are a helpful assistant. Watch the video, keep track of the steps, and tell the user what to do next."
FPS = 2
SECONDS = 60
"""Length of every clip."""

TUBE = (
    "Change the inner tube of a bicycle wheel",
    ["Take the wheel off the bike", "Remove the tire and the old tube", "Put in the new tube", "Pump up the tire"],
    [
        (2, "start", 1),
        (2, "user", "My back tire is flat and I want to change the tube. Can you help me?"),
        (2, "say", "Of course! Let's start with the wheel. Turn the bike upside down and open the quick release."),
        (9, "say", "Good. Now pull the chain back a little and lift the wheel out of the frame."),
        (16, "complete", 1),
        (16, "start", 2),
        (16, "say", "Great job! The wheel is off. Use the tire levers to lift one side of the tire over the rim."),
        (24, "user", "It is very tight. What should I do?"),
        (24, "say", "That is normal. Push the other side of the tire into the middle of the rim, and then try again."),
        (31, "complete", 2),
        (31, "start", 3),
        (31, "say", "Well done. Now take the new tube and put a little air into it, so that it keeps its shape."),
        (38, "say", "Put the valve through the hole in the rim, and then push the rest of the tube into the tire."),
        (47, "complete", 3),
        (47, "start", 4),
        (47, "say", "Perfect. Check that the tube is not caught under the tire, and then pump it up."),
        (57, "complete", 4),
        (57, "say", "The tire is nice and firm. You did a great job, and you are ready to ride again!"),
    ],
)
SHELF = (
    "Assemble a small bookshelf",
    [
        "Attach the side panels to the bottom board",
        "Insert the shelves",
        "Nail the back panel",
        "Stand up the bookshelf",
    ],
    [
        (1, "user", "I just bought a small bookshelf and I want to put it together."),
        (1, "say", "Great, let's get started! First, lay the two side panels and the bottom board on the floor."),
        (8, "start", 1),
        (8, "say", "Now use the screws to attach the bottom board to the first side panel."),
        (15, "say", "That looks good. Do the same with the second side panel, and make sure the screws are tight."),
        (22, "complete", 1),
        (22, "start", 2),
        (22, "say", "Great job! Next, slide the two shelves into the grooves between the side panels."),
        (30, "user", "Which side of the shelf should face the front?"),
        (30, "say", "The smooth side should face the front, so that you can see it when the bookshelf is finished."),
        (37, "complete", 2),
        (37, "start", 3),
        (37, "say", "Now turn the bookshelf over, put the back panel in place, and nail it to the side panels."),
        (44, "pause", 3),
        (44, "say", "It looks like you need the hammer. Take your time, and we can continue when you are ready."),
        (48, "resume", 3),
        (53, "complete", 3),
        (53, "start", 4),
        (53, "say", "Well done! Finally, stand the bookshelf up and check that it does not wobble."),
        (58, "complete", 4),
        (58, "say", "Your bookshelf is ready. Enjoy your new bookshelf!"),
    ],
)
COFFEE = (
    "Make a cup of pour-over coffee",
    ["Boil the water", "Grind the coffee beans", "Rinse the paper filter", "Pour the water over the coffee"],
    [
        (0, "start", 1),
        (
            0,
            "say",
            "Hello! Today we are going to make a cup of coffee. First, fill the kettle with water and turn it on.",
        ),
        (7, "start", 2),
        (7, "say", "While the water is heating, weigh twenty grams of coffee beans and grind them."),
        (15, "user", "How fine should I grind the beans?"),
        (
            15,
            "say",
            "Grind them to a medium size, about as coarse as sea salt. If they are too fine, it will be bitter.",
        ),
        (21, "complete", 2),
        (24, "complete", 1),
        (24, "start", 3),
        (24, "say", "The water is boiling. Put the paper filter into the dripper and rinse it with some hot water."),
        (33, "complete", 3),
        (33, "start", 4),
        (33, "say", "Very good. Now add the ground coffee to the filter and pour a little hot water over it."),
        (
            40,
            "say",
            "Wait for about thirty seconds, and let the coffee bloom before you pour in the rest of the water.",
        ),
        (48, "say", "Now pour the rest of the water slowly, in small circles, from the middle to the outside."),
        (58, "complete", 4),
        (58, "say", "Your coffee is ready. Take out the filter, and enjoy your cup of coffee!"),
    ],
)
DIALOGS = {"tube": TUBE, "shelf": SHELF, "coffee": COFFEE}


def write_clips(root: Path, seconds: int = SECONDS) -> None:
    """Write one dataset a dialog below `root`, split `train`, of `seconds` seconds; every frame has one colour."""
    for name in DIALOGS:
        write_prospect(root, [clip(name, seconds)], name)
        frames = root / f"{name}/frames/{name}.arrow"
        frames.parent.mkdir(parents=True, exist_ok=True)
        write_frames(frames, [jpeg(grey(row)) for row in range(seconds * FPS)])


def clip(name: str, seconds: int = SECONDS) -> dict:
    """Return the first `seconds` of a dialog in the public format."""
    goal, steps, events = DIALOGS[name]
    events = [event for event in events if event[0] < seconds]
    return {
        "video_uid": name,
        "dataset": name,
        "clip_idx": 0,
        "frames_file": f"{name}/frames/{name}.arrow",
        "start_frame_idx": 0,
        "end_frame_idx": seconds * FPS,
        "fps": FPS,
        "inferred_goal": goal,
        "conversation": [{"role": "system", "content": PROMPT}, *(_turn(*event) for event in events)],
        "dst": [{"type": "step", "id": f"S{number}", "name": step} for number, step in enumerate(steps, start=1)],
    }


def _turn(second: int, kind: str, what: str | int) -> dict:
    where = {"time": float(second), "start_frame": second * FPS, "end_frame": second * FPS + 2}
    if isinstance(what, int):
        return {"role": "DST_UPDATE", "content": [{"id": f"S{what}", "transition": kind}], **where}
    return {"role": "user" if kind == "user" else "assistant", "content": what, **where}
