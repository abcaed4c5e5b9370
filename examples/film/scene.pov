// A mesh at work: seven machines, the links between them, and the work that travels along the links.
//
// Frame 7 of 48, on one core, as frame07.png (a loop without a seam; the clock is the frame's share of a turn):
//   povray +Iscene.pov +Oframe.png +W640 +H360 +A0.2 -D +WT1 +KFF48 +KC +SF7 +EF7
#version 3.7;

#declare T = clock;            // 0 <= T < 1
#declare Turn = 2 * pi * T;

global_settings {
  assumed_gamma 1.0
  max_trace_level 3
}

#default { finish { ambient 0 diffuse 0.8 } }

// ---- where things are

#declare Count = 6;
#declare Ring = 3.1;

// Machine I bobs on a slow wave that runs round the ring once a loop.
#macro Machine(I)
  (<Ring * cos(2 * pi * I / Count), 1.35 + 0.3 * sin(Turn + 2 * pi * I / Count), Ring * sin(2 * pi * I / Count)>)
#end
#declare Hub = <0, 2.35 + 0.12 * sin(Turn), 0>;

// The eye swings to and fro, so that the last frame leads into the first.
#declare Swing = 0.5 * sin(Turn);
#declare Eye = <9.4 * sin(Swing), 3.6 + 0.6 * cos(Turn), -9.4 * cos(Swing)>;

#declare Hues = array[6] {
  srgb <1.00, 0.42, 0.10>, srgb <1.00, 0.76, 0.10>, srgb <0.32, 0.92, 0.36>,
  srgb <0.08, 0.78, 1.00>, srgb <0.48, 0.42, 1.00>, srgb <1.00, 0.26, 0.60>
}
#declare White = rgb <1.0, 0.95, 0.85>;

// ---- sky and floor

sky_sphere {
  pigment {
    gradient y
    color_map {
      [0.00 rgb <0.010, 0.012, 0.030>]
      [0.06 rgb <0.020, 0.023, 0.060>]
      [0.40 rgb <0.004, 0.005, 0.018>]
    }
  }
}

plane {
  y, 0
  // the tiles fade into the dark of the horizon before they alias
  pigment {
    cylindrical
    pigment_map {
      [0.0 color rgb <0.010, 0.012, 0.030>]
      [0.6 hexagon rgb <0.020, 0.024, 0.036>, rgb <0.030, 0.035, 0.052>, rgb <0.014, 0.017, 0.027> scale 0.9 / 24]
    }
    scale 24
  }
  finish { diffuse 0.7 specular 0.15 roughness 0.02 reflection { 0.12, 0.55 fresnel on } conserve_energy }
  interior { ior 1.6 }
}

// ---- light: one soft key, one cool rim, and the hub's own glow

light_source {
  <-6, 11, -7> rgb <1.0, 0.93, 0.82> * 1.15
  area_light <2.4, 0, 0>, <0, 0, 2.4>, 3, 3
  adaptive 0
  circular orient
}
light_source { <9, 5, 8> rgb <0.16, 0.26, 0.55> * 1.3 shadowless }
light_source { Hub White * 0.9 fade_distance 2.2 fade_power 2 shadowless }

// ---- pieces

#macro Glow(C, Strength)
  texture { pigment { color C } finish { emission Strength diffuse 0.1 } }
#end

// A soft halo: a disc that faces the camera and fades to its rim; media would look the same and cost minutes.
#macro Halo(P, R, C)
  #local Ahead = vnormalize(P - Eye);
  #local Across = vnormalize(vcross(y, Ahead));
  #local Up = vcross(Ahead, Across);
  disc {
    0, z, R
    pigment {
      spherical
      color_map { [0 rgb 0 transmit 1] [0.35 color C * 0.10 transmit 0.93] [0.7 color C * 0.5 transmit 0.6] [1 color C transmit 0] }
      scale R
    }
    finish { emission 1 diffuse 0 }
    no_shadow no_reflection
    matrix <Across.x, Across.y, Across.z, Up.x, Up.y, Up.z, Ahead.x, Ahead.y, Ahead.z, 0, 0, 0>
    translate P
  }
#end

#macro Link(A, B, C)
  cylinder { A, B, 0.026 Glow(C, 1.3) no_shadow }
#end

// Work on its way from A to B: a bright ball with a tail, U in 0..1; it swells out of A and shrinks into B.
#macro Parcel(A, B, U, C)
  #local R = 0.12 * min(1, 7 * U, 7 * (1 - U));
  #local Head = A + (B - A) * U;
  #local Tail = A + (B - A) * max(0, U - 0.24);
  #if (R > 0.004)
    sphere { Head, R Glow(C + 0.12, 1.6) no_shadow }
    cone { Tail, 0.02, Head, R * 0.86 open Glow(C, 1.1) no_shadow }
  #end
#end

// ---- the machines

#declare I = 0;
#while (I < Count)
  #local P = Machine(I);
  #local Q = Machine(mod(I + 1, Count));
  #local Far = Machine(mod(I + 2, Count));
  #local C = Hues[I];
  #local D = Hues[mod(I + 1, Count)];

  sphere {
    P, 0.52
    pigment { color C * 0.75 }
    finish { diffuse 0.55 specular 0.9 roughness 0.004 reflection { 0.06, 0.6 fresnel on } conserve_energy emission 0.07 }
    interior { ior 1.7 }
  }
  // a ring tilted about each machine, with a moon that runs on it: its own work in progress
  torus {
    0.80, 0.020
    Glow(C, 0.9)
    rotate x * (24 + 9 * I)
    rotate y * (60 * I + 360 * T)
    translate P
    no_shadow
  }
  sphere {
    <0.80, 0, 0>, 0.095
    Glow(C * 0.6 + 0.4, 1.3)
    rotate y * -(720 * T + 75 * I)
    rotate x * (24 + 9 * I)
    rotate y * (60 * I + 360 * T)
    translate P
    no_shadow
  }

  Link(P, Q, (C + D) / 2 * 0.55)
  Link(P, Hub, C * 0.75)
  cylinder { P, Far, 0.010 Glow(C * 0.4, 0.8) no_shadow }

  // tasks go out from the hub, results come back, neighbours exchange files
  Parcel(Hub, P, mod(2 * T + I / Count, 1), C)
  Parcel(P, Hub, mod(2 * T + I / Count + 0.5, 1), White)
  Parcel(P, Q, mod(T + I * 0.37, 1), D)

  // a pool of the machine's light on the floor
  light_source { P - <0, 0.75, 0> C * 0.55 fade_distance 0.7 fade_power 2 shadowless }
  #declare I = I + 1;
#end

// ---- the hub: a lit core in a turning cage of glass and gold

sphere { Hub, 0.34 Glow(White, 1.4) no_shadow }
Halo(Hub, 1.5, White)
#declare J = 0;
#while (J < 3)
  torus {
    0.68, 0.035
    pigment { color rgb <0.95, 0.62, 0.22> }
    finish { diffuse 0.35 specular 0.8 roughness 0.01 reflection { 0.35 metallic } metallic emission 0.06 }
    rotate x * (90 * (J > 0))
    rotate y * (90 * (J > 1))
    rotate <360 * T, 360 * T, 0>
    translate Hub
  }
  #declare J = J + 1;
#end

camera {
  location Eye
  right x * image_width / image_height
  look_at <0, 1.05, 0>
  angle 56
}
