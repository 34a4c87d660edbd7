"""Tasks for generated dialogs: each step with other words for it, as annotators and people in a dialog say it.

A step is: name; written lines; instructions; the thing that it is about, as it is called in passing; what goes on.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """A step and the words for it."""

    name: str
    written: tuple[str, ...]
    told: tuple[str, ...]
    thing: str
    going_on: str


def _task(text: str) -> tuple[Wording, ...]:
    steps = []
    for line in text.strip().splitlines():
        name, written, told, thing, going_on = (part.strip() for part in line.split("|"))
        steps.append(Wording(name, tuple(written.split(" / ")), tuple(told.split(" / ")), thing, going_on))
    return tuple(steps)


TASKS = {
    "Cooking Vegetable Soup": _task("""
    Chop the onions and carrots. | dice onions and carrots / cut carrot and onion into pieces / chopping vegetables: onion, carrot | Cut up the onions and the carrots. / Start by dicing the carrots and onions. | the onions and carrots | chopping the onions
    Heat oil in a large pot. | warm up oil in pot / pour oil into the pot and turn on the burner / heat pot with oil | Get some oil hot in the pot. / Warm the oil in the big pot. | the oil | the oil is heating
    Saute the vegetables until soft. | fry vegetables / cook the vegetables till they soften / stir and saute veggies | Fry the vegetables until they are tender. / Saute all the vegetables. | the vegetables | the vegetables are frying
    Pour in the vegetable broth. | add broth / pour stock (broth) into pot / empty broth carton | Add the broth. / Tip in all of the broth. | the broth | pouring the broth
    Season with salt and thyme. | add salt and thyme / sprinkle thyme, salt / put some salt and herbs such as thyme | Sprinkle salt and thyme in. / Give it some thyme and salt. | the thyme | seasoning
    Simmer the soup for ten minutes. | let soup simmer / cook soup on low heat / soup boils gently | Leave the soup to simmer. / Turn the heat down and let the soup bubble. | the soup | the soup is simmering
    Ladle the soup into bowls. | serve soup in bowl / scoop soup into bowls with ladle / fill bowls with soup | Fill the bowls with soup using the ladle. / Ladle it into the bowls. | the bowls | ladling
    """),
    "Assembling a Toy Truck": _task("""
    Attach the wheels to the axle. | attach wheel to axle / fit wheels on axle / put wheels onto the axle | Push the wheels onto the axle. / Mount the wheels on the axle. | the wheels | fitting the wheels
    Screw the axle to the base. | screw axle with screwdriver / fasten axle to base / tighten the axle screw | Fasten the axle to the base with a screw. / Screw on the axle. | the axle | screwing the axle
    Clip the cabin onto the base. | attach cabin to base / put the cabin on / clip cabin | Snap the cabin onto its base. / Put on the cabin. | the cabin | clipping the cabin
    Insert the battery into the compartment. | insert battery / put battery in its compartment / slide the battery in | Slide the battery in. / Put the battery into the compartment. | the battery | inserting the battery
    Fit the dump bed on the rear hinge. | attach dump bed to hinge / place bed on hinge / hook dump bed | Hook the dump bed into the hinge. / Mount the bed at the back. | the dump bed | fitting the dump bed
    Stick the decals on the doors. | apply decals / stick sticker decals on door / put decals on doors | Apply the decals to both doors. / Put the decals on. | the decals | sticking the decals
    """),
    "Making a Paper Lantern": _task("""
    Fold the paper in half. | fold paper / fold the sheet of paper in half / paper is folded | Fold your paper over once. / Fold the sheet in half. | the paper | folding
    Draw lines with a ruler. | draw lines / mark lines using ruler / rule pencil lines | Mark some lines along the ruler. / Use the ruler to draw the lines. | the lines | drawing the lines
    Cut slits along the lines. | cut slits / cut along line with scissors / snip slits | Snip slits where you marked. / Take the scissors and cut the slits. | the slits | cutting the slits
    Glue the edges together. | glue edges / apply glue to edge / stick edges together with glue | Stick the edges together with glue. / Put glue on the edges. | the glue | the glue is drying
    Attach a handle to the top. | attach handle / staple paper handle on top / add a strip as handle | Fasten the handle at the top. / Staple on the handle. | the handle | attaching the handle
    Put a candle light inside. | place candle inside / insert LED candle light / light put in lantern | Place the little candle light in it. / Drop the candle inside. | the candle | placing the candle
    """),
    "Changing a Bicycle Tire": _task("""
    Take the wheel off the frame. | remove wheel from frame / take off the wheel / wheel taken out of bike frame | Remove the wheel from the frame. / Loosen the nuts and get the wheel off. | the wheel | taking the wheel off
    Pry the tire off with levers. | pry tire with lever / use tire levers on the rim / lever tire off | Use the levers to work the tire off. / Get the tire loose with two levers. | the levers | prying the tire
    Pull out the punctured tube. | pull tube out / remove old inner tube / take out punctured tube | Take out the old tube. / Draw the punctured tube out of the tire. | the old tube | pulling the tube
    Inflate the new tube slightly. | pump a little air in new tube / inflate tube / blow up new tube | Give the new tube a bit of air. / Inflate the fresh tube a little. | the new tube | inflating
    Seat the tire on the rim. | fit tire on rim / put tire back onto rim / press tire over the rim | Press the tire back over the rim. / Work the tire onto the rim. | the rim | seating the tire
    Pump the tire to full pressure. | pump tire / use pump until pressure is full / inflate to full pressure with pump | Pump it up to full pressure. / Use the pump until the gauge shows the pressure. | the pump | pumping
    Wipe the chain with a rag. | wipe chain / clean chain with rag / run rag over chain | Clean the chain with the rag. / Wipe down the chain. | the chain | wiping
    """),
}
"""By goal; thresholds and costs were chosen on these."""

HELD_OUT = {
    "Setting Up a Coffee Machine": _task("""
    Rinse the water tank. | wash tank / the user rinses out the water tank / tank is cleaned with water | Wash out the water tank. / Give the tank a rinse. | the tank | rinsing the tank
    Fill the tank with fresh water. | fill tank / pour fresh water in tank / add water to tank | Pour fresh water into the tank. / Top the tank up with fresh water. | the fresh water | the tank is filling
    Insert a paper filter. | put filter in / place paper filter in basket / filter inserted | Put a filter into the basket. / Slip in a paper filter. | the filter | inserting the filter
    Spoon ground coffee into the filter. | add coffee grounds / scoop coffee into filter / measure ground coffee | Scoop the ground coffee in. / Now add the ground coffee. | the ground coffee | scooping coffee
    Switch the machine on. | turn on machine / press power switch of machine / switch on | Turn the machine on. / Hit the switch on the machine. | the machine | the machine is brewing
    Pour the coffee into a mug. | pour coffee in mug / fill mug / mug filled with coffee | Fill a mug with the coffee. / Pour yourself a mug. | the mug | pouring
    """),
    "Planting Herbs in a Pot": _task("""
    Cover the hole with a stone. | place stone over hole / put pebble stone on drain hole / hole covered | Lay a stone over the hole. / Put the stone on the drain hole. | the stone | covering the hole
    Fill the pot with soil. | add soil to pot / shovel soil / pot filled with potting soil | Shovel soil into the pot. / Put soil in. | the soil | shoveling soil
    Make a hollow with your finger. | dig hollow / press finger into earth / make small hollow by finger | Press a hollow with one finger. / Use your finger for a small hollow. | the hollow | digging
    Set the seedling in the hollow. | place seedling / plant seedling / put basil seedling in place | Plant the seedling. / Lower the seedling into it. | the seedling | planting
    Press the soil around the roots. | firm soil around roots / pat down soil at roots / press earth by the roots | Firm up the soil at the roots. / Pat the roots in. | the roots | pressing
    Water the plant gently. | water plant / pour water from watering can / sprinkle the plant with water | Give the plant some water. / Use the watering can on the plant. | the watering can | watering
    Label the pot with a marker. | write label / label pot / marker used to write name on pot | Write a label with the marker. / Mark the pot with its label. | the label | labeling
    """),
}
"""Tasks that nothing was chosen on."""
